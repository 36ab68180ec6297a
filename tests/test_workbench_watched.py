"""Certificates over a training. Oracle: `certify.proximal_duality_gap` on the saved pair; the same run without them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from begun import begun
from saddlegan import Certificate, Game, Status, certify
from saddlegan.certify import _watch
from saddlegan.results import Step
from saddlegan.train import MixedLatent
from saddlegan.workbench import cli
from saddlegan.workbench.data import sources
from saddlegan.workbench.runs import folder as runs
from saddlegan.workbench.training import loop
from saddlegan.workbench.training import watch as watched
from saddlegan.workbench.training.recipe import make_recipe
from saddlegan.workbench.training.session import Session, config_of

OPTIONS = {
    "rule": "alternating",
    "objective": "vanilla",
    "steps": 12,
    "batch": 16,
    "hidden": (8,),
    "activation": "softplus",
    "metrics_every": 4,
    "checkpoint_every": 1,
    "keep": 20,
    "certify_every": 5,
    "certify_steps": 10,
}
LINE = ["train", "ring", "--rule", "alternating", "--steps", "12", "--metrics-every", "6", "--n-samples", "200"]
LINE += ["--set", "hidden=8", "--batch", "16", "--set", "activation=softplus", "--set", "certify_steps=10"]
FIGURES = {"proximal_gap", "proximal_gap_error", "generator_gain", "discriminator_gain"}


def _start(path: Path, **changed: object) -> tuple[Session, runs.Run, sources.Data]:
    data = sources.load("ring", n_samples=200)
    session = Session(make_recipe(**{**OPTIONS, **changed}), data)
    G, D = session.generators()[0], session.discriminators()[0]
    return session, begun(path, config_of(session, data, command_line=""), generator=G, discriminator=D), data


def _train(session: Session, run: runs.Run, data: sources.Data) -> loop.Ending:
    mark = loop.fingerprint(run)
    if session.recipe.certify_every == 0:
        return loop.train(session, run, data, fingerprint=mark)
    watch = watched.Watched(session, data)
    return loop.train(session, run, data, fingerprint=mark, callbacks=[watch], metrics=watch.figures)


@pytest.mark.slow  # trains and searches along the way
def test_lines_carry_gaps_and_training_keeps_its_bits(tmp_path: Path) -> None:
    watching, plain = _start(tmp_path / "a"), _start(tmp_path / "b", certify_every=0)
    _train(*watching)
    _train(*plain)
    rows = watching[1].metrics()
    assert [row["step"] for row in rows] == list(range(13)), "a short run has a line for every step"
    assert [row["step"] for row in rows if set(row) >= FIGURES] == [0, 5, 10, 12]
    assert all(not FIGURES & set(row) for row in rows if row["step"] in (4, 8))
    assert rows[-1]["proximal_gap"] == pytest.approx(rows[-1]["generator_gain"] + rows[-1]["discriminator_gain"])
    for name in ("generator.safetensors", "discriminator.safetensors"):
        assert (watching[1].path / name).read_bytes() == (plain[1].path / name).read_bytes()
    # the oracle: ask for the last gap from the saved files
    run, recipe = watching[1], watching[0].recipe
    G, D = run.load_generator().requires_grad_(True), run.load_discriminator().requires_grad_(True)
    X = (watching[2].X - watching[0].scale.offset) / watching[0].scale.scale
    expected = certify.proximal_duality_gap(
        Game(G, D, objective="vanilla", latent=MixedLatent(recipe.bits, recipe.gaussians)),
        np.asarray(X, dtype=np.float32),
        lam=1.0,
        search=certify.Search(steps=10, batch_size=64, evaluations=1),
    )
    assert rows[-1]["proximal_gap"] == expected.gap
    assert rows[-1]["proximal_gap_error"] == expected.standard_error


@pytest.mark.slow  # trains and searches along the way
@pytest.mark.parametrize("at", [9])
def test_a_resumed_run_writes_the_same_lines(tmp_path: Path, at: int) -> None:
    whole, cut = _start(tmp_path / "whole"), _start(tmp_path / "cut")
    _train(*whole)
    _train(*cut)
    again = Session(make_recipe(**cut[1].config.options), cut[2])
    assert loop.resume(again, cut[1], fingerprint=loop.fingerprint(cut[1]), at=at) == at
    _train(again, cut[1], cut[2])
    for name in ("metrics.jsonl", "generator.safetensors", "discriminator.safetensors"):
        assert (whole[1].path / name).read_bytes() == (cut[1].path / name).read_bytes()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes ten search steps for enough: a budget that truly settles would make these tests of the loop slow."""

    def measure(*args: Any, **options: Any) -> Certificate:
        found = certify.proximal_duality_gap(*args, **options)
        return dataclasses.replace(found, gap=abs(found.gap), verdict="not refuted", status=Status.SETTLED)

    monkeypatch.setattr(_watch, "proximal_duality_gap", measure)


@pytest.mark.slow  # trains and searches along the way
def test_a_search_that_failed_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: Any, **options: Any) -> Certificate:
        found = certify.proximal_duality_gap(*args, **options)
        return dataclasses.replace(found, gap=-abs(found.gap), verdict="undecided", status=Status.BUDGET_SPENT)

    monkeypatch.setattr(_watch, "proximal_duality_gap", failing)
    session, run, data = _start(tmp_path / "a", stop_below=1e6)
    assert _train(session, run, data).reason == "done"
    assert run.metrics()[-1]["proximal_gap"] < 0


@pytest.mark.slow  # trains and searches along the way
@pytest.mark.usefixtures("settled")
def test_it_stops_once_the_gap_is_below_and_not_before(tmp_path: Path) -> None:
    session, run, data = _start(tmp_path / "a", stop_below=1e6)
    ending = _train(session, run, data)
    assert (ending.reason, ending.done) == ("stopped", 5)
    assert run.metrics()[-1]["step"] == 5
    session, run, data = _start(tmp_path / "b", stop_below=1e-9)
    assert _train(session, run, data).reason == "done"


@pytest.mark.slow  # trains and searches along the way
@pytest.mark.usefixtures("settled")
def test_every_seed_is_measured_and_all_must_be_below(tmp_path: Path) -> None:
    session, run, data = _start(tmp_path / "a", seeds=2)
    _train(session, run, data)
    row = run.metrics()[-1]
    assert row["proximal_gap"] == pytest.approx(np.mean(row["proximal_gap_by_seed"]))
    low, high = sorted(row["proximal_gap_by_seed"])
    assert low < high
    between = 0.5 * (low + high) + 2.0 * math.sqrt(2) * row["proximal_gap_error"]
    session, run, data = _start(tmp_path / "b", seeds=2, certify_every=12, stop_below=max(between, 0.0))
    watch = watched.Watched(session, data)
    steps = [session.step() for _ in range(12)]
    assert not watch.after_step(12, steps[-1]) or high + 4 * row["proximal_gap_error"] < between


def test_broken_weights_are_left_to_the_loop() -> None:
    data = sources.load("ring", n_samples=200)
    session = Session(make_recipe(**OPTIONS), data)
    watch = watched.Watched(session, data)
    with torch.no_grad():
        next(session.discriminators()[0].parameters()).fill_(torch.nan)
    step = Step(value=0.0, generator_loss=0.0, discriminator_loss=0.0, stats={})
    assert not watch.after_step(5, step)
    assert watch.figures(session) == {}


@pytest.mark.slow  # trains and searches along the way
@pytest.mark.usefixtures("settled")
def test_the_command_judges_stops_reports_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    words = ["--certify-every", "4", "--certify-objective", "vanilla", "--lam", "0.5", "--stop-below", "1e6"]
    assert cli.run([*LINE, *words, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "steps: 4 of 12" in said
    assert "proximal gap: " in said
    page = (out / "report.html").read_text()
    assert "vanilla value at lambda = 0.5" in page
    assert "followed the non-saturating losses" in page
    assert "below 1e+06" in page
    last = next(s for s in json.loads((out / "report.json").read_text())["sections"] if s["id"] == "training")["data"]
    assert set(last["last"]) >= FIGURES
    assert last["options"]["certify_every"] == 4
    assert cli.run(["train", "--resume", str(out)]) == 0  # the options are the run's own
    assert [row["step"] for row in runs.Run.open(out).metrics()] == list(range(9))


@pytest.mark.slow  # trains and searches along the way
def test_a_loss_that_is_not_zero_sum_is_measured_by_its_twin_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--steps", "2", "--certify-every", "2", "--certify-steps", "2", "--objective", "non-saturating"]
    assert cli.run([*LINE, *quick, "--out", str(tmp_path / "run")]) == 0
    device, said = capsys.readouterr().out.splitlines()[:2]
    assert device.startswith("device: ")
    assert said.startswith("'non-saturating' is not zero-sum: gaps are measured on its zero-sum twin 'vanilla'")
    named = [*LINE, *quick, "--certify-objective", "vanilla", "--out", str(tmp_path / "named")]
    assert cli.run(named) == 0
    assert "twin" not in capsys.readouterr().out
    assert runs.Run.open(tmp_path / "run").metrics() == runs.Run.open(tmp_path / "named").metrics()


@pytest.mark.slow  # runs whole commands
def test_a_piecewise_linear_discriminator_is_judged_in_a_norm_that_sees_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a warning, which is an error here; a norm that was asked for stays."""
    quick = ["--steps", "2", "--certify-every", "2", "--certify-steps", "2", "--set", "activation=leaky-relu"]
    assert cli.run([*LINE, *quick, "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("the discriminator is piecewise linear")
    assert runs.Run.open(tmp_path / "run").config.options["norm"] == "l2"
    assert "(l2 distance)" in (tmp_path / "run" / "report.html").read_text()
    assert cli.run([*LINE, *quick, "--norm", "parameters", "--out", str(tmp_path / "asked")]) == 0
    assert runs.Run.open(tmp_path / "asked").config.options["norm"] == "parameters"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--certify-every", "4", "--objective", "least-squares"], "without `--certify-objective` needs a zero-sum"),
        (["--certify-every", "4", "--certify-objective", "hinge"], "'hinge'"),
        (["--certify-every", "-1"], "`--certify-every`"),
        (["--certify-every", "4", "--certify-objective", "vanilla", "--stop-below", "nan"], "`--stop-below`"),
        (["--stop-below", "0.1"], "`--stop-below` needs `--certify-every`"),
        (["--certify-objective", "vanilla"], "`--certify-objective` needs `--certify-every`"),
    ],
)
def test_wrong_requests_leave_one_line_and_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert cli.run([*LINE, *words, "--out", str(tmp_path / "run")]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert message in complaint
    assert not (tmp_path / "run").exists()
