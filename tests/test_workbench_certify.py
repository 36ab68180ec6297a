"""`saddlegan certify` on run folders. Oracle: the same certificate asked for in Python; the files it writes."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

import pytest
import torch

from saddlegan import certify, fit
from saddlegan.errors import RunError
from saddlegan.networks import MLP
from saddlegan.workbench import cli
from saddlegan.workbench.data import sources as data
from saddlegan.workbench.report.scene import Scene
from saddlegan.workbench.report.sections import equilibrium as judged
from saddlegan.workbench.runs import folder as runs
from saddlegan.workbench.runs import players
from saddlegan.workbench.runs.config import LatentSpec, RunConfig
from saddlegan.workbench.terminal import progress

FAST = ["--steps", "10", "--restarts", "1", "--batch-size", "32"]


def _trained(out: Path, objective: str) -> runs.Run:
    """A run folder as training leaves it, with an untrained smooth pair."""
    rng = torch.Generator().manual_seed(0)
    G, D = MLP(3, 2, hidden=(8,), activation="silu"), MLP(2, 1, hidden=(8,), activation="softplus")
    with torch.no_grad():
        for parameter in (*G.parameters(), *D.parameters()):
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=rng))
    config = RunConfig(
        command="train",
        model="alternating",
        objective=objective,
        data=data.load("ring", n_samples=256).spec,
        latent=LatentSpec(size=3),
        generator=players.network_spec(G),
        discriminator=players.network_spec(D),
    )
    with runs.create(out, config, generator=G, discriminator=D, overwrite=False):
        pass
    return runs.Run.open(out)


@pytest.mark.slow  # whole searches
def test_a_solved_run_is_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert cli.run(["fit", "digits", "--out", str(out)]) == 0
    assert cli.run(["certify", str(out), "--lam", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(out / "report.html")
    assert sum(": proved (gains" in line for line in lines) == 3
    written = json.loads((out / "certificate.json").read_text())
    assert {"solution", "spectrum", "equilibrium"} <= set(written)
    run = runs.Run.open(out)
    found = judged.read(run)
    assert found is not None
    assert found.proved
    assert found.upper == float("inf")
    digits = data.load("digits").X
    expected = certify.nash(fit.QuadraticWGAN(16).fit(digits).game_, digits)
    assert found.certificates[-1].gap == pytest.approx(expected.gap, abs=1e-8)
    assert not run.has(judged.PICTURE)
    page = (out / "report.html").read_text()
    assert "Which equilibrium it is at" in page
    assert found.sentence in page


@pytest.mark.slow  # whole searches
def test_a_trained_run_is_searched_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _trained(tmp_path / "run", "vanilla")
    assert cli.run(["certify", str(run.path), "--lam", "1", *FAST]) == 0
    said = capsys.readouterr().out
    assert said.count("refuted (gains: generator not measured, discriminator 0.") == 2  # it alone refutes the pair
    assert judged.UNSEARCHED in said
    assert judged.UNSEARCHED in unescape((run.path / "report.html").read_text())
    assert cli.run(["certify", str(run.path), "--lam", "1", "--thorough", *FAST]) == 0
    said = capsys.readouterr().out
    assert "Nash" in said
    assert "not measured" not in said
    found = judged.read(run)
    assert found is not None
    assert found.lams == (0.0, 1.0, float("inf"))
    assert not found.proved
    assert run.has(judged.PICTURE)
    page = (run.path / "report.html").read_text()
    for caption in ("What the generator could still gain", "The searches behind", "frozen discriminator"):
        assert caption in page
    twin = json.loads((run.path / "report.json").read_text())
    entry = next(part for part in twin["sections"] if part["id"] == "equilibrium")
    assert set(entry["data"]["verdicts"]) == {
        "Stackelberg (lambda = 0)",
        "proximal, lambda = 1",
        "Nash (lambda = infinity)",
    }


@pytest.mark.slow  # whole searches
def test_same_seed_same_file(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        run = _trained(tmp_path / name, "vanilla")
        assert cli.run(["certify", str(run.path), "--lam", "0.5", *FAST]) == 0
        texts.append((run.path / "certificate.json").read_bytes())
    assert texts[0] == texts[1]


@pytest.mark.slow  # whole searches
def test_a_loss_that_is_not_zero_sum_is_judged_by_its_twin_and_this_is_said_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _trained(tmp_path / "run", "non-saturating")
    assert cli.run(["certify", str(run.path), "--lam", "1", *FAST]) == 0
    assert capsys.readouterr().out.startswith("'non-saturating' is not zero-sum: judged by its zero-sum twin 'vanilla'")
    twin = (run.path / "certificate.json").read_bytes()
    assert cli.run(["certify", str(run.path), "--objective", "non-saturating", *FAST]) == 2
    assert "--objective" in capsys.readouterr().err
    assert cli.run(["certify", str(run.path), "--objective", "vanilla", "--lam", "1", *FAST]) == 0
    assert (run.path / "certificate.json").read_bytes() == twin


def test_bad_requests_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _trained(tmp_path / "run", "vanilla")
    for words, named in (
        ([str(tmp_path / "none")], "not a run folder"),
        ([str(run.path), "--lam", "-1"], "`--lam`"),
        ([str(run.path), "--steps", "0"], "`--steps`"),
        ([str(run.path), "--batch-size", "500"], "`--batch-size`"),
        ([str(run.path), "--objective", "nonsense"], "`--objective`"),
    ):
        assert cli.run(["certify", *words]) == 2
        complaint = capsys.readouterr().err
        assert named in complaint
        assert complaint.count("\n") == 1


def test_a_damaged_entry_is_named_and_an_absent_one_says_what_to_type(tmp_path: Path) -> None:
    run = _trained(tmp_path / "run", "vanilla")
    assert judged.read(run) is None
    absent = judged.section(Scene(run, None))
    assert absent is not None
    assert f"saddlegan certify {run.path}" in absent.html
    run.write_json("certificate.json", {"equilibrium": {"sentence": 3}})
    with pytest.raises(RunError, match=r"certificate\.json is damaged"):
        judged.read(run)


@pytest.mark.slow  # runs whole commands
def test_a_search_says_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipe plain lines on standard error, here without a pause between them."""
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    run = _trained(tmp_path / "run", "vanilla")
    assert cli.run(["certify", str(run.path), "--lam", "1", "--thorough", *FAST]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("search of the ")]
    shares = [int(line.split(": ")[1].split(" ")[0]) for line in lines]
    assert len(lines) > 3
    assert max(shares) == 100
    assert " of 100 %, " in lines[0]
