"""The loop, its checkpoints and the command: resumable to the bit, every stop clean, every fault named."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from begun import begun
from kill_and_resume import session_for
from saddlegan import metrics, train
from saddlegan.errors import CheckpointError, InputError, SampleSizeWarning
from saddlegan.metrics._modes import ModeMetrics, frechet_distance, mode_metrics
from saddlegan.results import Step
from saddlegan.workbench import cli
from saddlegan.workbench.data import sources, synthetic
from saddlegan.workbench.data.spec import DataSpec
from saddlegan.workbench.locks import holder
from saddlegan.workbench.runs import checkpoints
from saddlegan.workbench.runs import folder as runs
from saddlegan.workbench.terminal import progress
from saddlegan.workbench.training import loop
from saddlegan.workbench.training.recipe import QUICK, STEADY, Recipe, defaults_for, make_recipe
from saddlegan.workbench.training.session import Session, config_of, figures_of, make_pair
from saddlegan.workbench.training.stopping import StopWhen
from saddlegan.workbench.training.tracked import Tracked

SMALL = ["--set", "hidden=8", "--batch", "16", "--set", "points=8", "--n-samples", "200"]


def small_run(path: Path, rule: str = "primal-dual") -> tuple[Session, runs.Run, sources.Data]:
    session, data = session_for(rule)
    run = begun(
        path,
        config_of(session, data, command_line=""),
        generator=session.generators()[0],
        discriminator=session.discriminators()[0],
    )
    return session, run, data


# metrics


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_a_perfect_sampler_scores_the_ceiling(name: str) -> None:
    """Oracle: the chi distribution; 98.89% of a two-dimensional Gaussian lies within 3 standard deviations."""
    found = synthetic.SOURCES[name].make("", 200_000, 1)
    assert found.centers is not None
    assert found.sd is not None
    m = mode_metrics(found.X, found.centers, found.sd)
    assert m.ceiling == pytest.approx(1 - np.exp(-4.5), abs=1e-12)
    assert m.high_quality == pytest.approx(m.ceiling, abs=1e-3)
    assert m.modes == m.total
    assert m.total_variation < 0.01
    assert m.spread == pytest.approx(1.0, abs=0.01)
    few = mode_metrics(found.X[:2500], found.centers, found.sd)
    assert few.total_variation == pytest.approx({"ring": 0.022, "grid": 0.040}[name], abs=0.015)


def test_collapse_smear_and_shrinkage_are_told_apart() -> None:
    found = synthetic.ring(2500, random_state=0)
    centers = found.centers
    assert centers is not None
    one = mode_metrics(np.repeat(centers[:1], 2500, 0), centers, 0.01)
    assert (one.modes, one.high_quality, one.spread) == (1, 1.0, 0.0)
    assert one.total_variation == pytest.approx(7 / 8)
    smear = mode_metrics(np.random.default_rng(0).uniform(-1.2, 1.2, (2500, 2)), centers, 0.01)
    assert smear.high_quality < 0.02
    half = mode_metrics(
        centers[np.arange(2400) % 8] + 0.5 * (found.X[:2400] - nearest(found.X[:2400], centers)), centers, 0.01
    )
    assert half.spread == pytest.approx(0.5, abs=0.05)
    assert mode_metrics(np.full((4, 2), 9.0), centers, 0.01) == ModeMetrics(0, 8, 0.0, half.ceiling, 1.0, 0.0)


def nearest(X: np.ndarray, centers: np.ndarray) -> np.ndarray:
    return centers[((X[:, None] - centers[None]) ** 2).sum(2).argmin(1)]


def test_metrics_refuse_what_cannot_be_measured() -> None:
    centers = np.zeros((2, 2))
    with pytest.raises(InputError, match="NaN"):
        mode_metrics(np.full((3, 2), np.nan), centers, 0.1)
    with pytest.raises(InputError, match="agree in d"):
        mode_metrics(np.zeros((3, 3)), centers, 0.1)
    with pytest.raises(InputError, match="agree in d"):
        mode_metrics(np.zeros((0, 2)), centers, 0.1)
    with pytest.raises(InputError, match="`sd`"):
        mode_metrics(np.zeros((3, 2)), centers, 0.0)


def test_frechet_distance_against_scipy() -> None:
    """Oracle: scipy's matrix square root of C_1 C_2."""
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((400, 5)) @ rng.standard_normal((5, 5)), rng.standard_normal((300, 5)) + 1
    C, K = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(C + K - 2 * np.real(sqrtm(C @ K)))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("every", [1, 7, 500])
def test_runs_of_every_length_have_ten_lines_or_one_a_step(every: int) -> None:
    for steps in range(1, 200):
        recipe = make_recipe(steps=steps, metrics_every=every, certify_every=0)
        after = [done for done in range(1, steps + 1) if recipe.measured_after(done)]
        assert after[-1] == steps
        assert len(after) >= min(9, steps)
        assert max(b - a for a, b in itertools.pairwise([0, *after])) <= 2 * min(every, max(1, steps // 9))
        if every * 9 <= steps:
            assert after[:-1] == list(range(every, steps, every))


@pytest.mark.slow  # runs whole commands
@pytest.mark.parametrize(("steps", "every"), [(12, 500), (20, 500), (60, 7)])
def test_a_curve_has_ten_points_and_starts_at_step_0(steps: int, every: int, tmp_path: Path) -> None:
    data = sources.load("ring", n_samples=200)
    recipe = make_recipe(rule="primal-dual", steps=steps, metrics_every=every, hidden=(8,), batch=16, points=8)
    session = Session(recipe, data)
    run = begun(
        tmp_path / "run",
        config_of(session, data, command_line=""),
        generator=session.generators()[0],
        discriminator=session.discriminators()[0],
    )
    loop.train(session, run, data, fingerprint="x")
    rows = run.metrics()
    assert rows[0]["step"] == 0
    assert len(rows) >= 10
    assert all({"value", "generator_loss", "density_term", "spread"} <= set(row) for row in rows)
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})


def test_lines_hold_the_kernel_distance_of_every_seed(tmp_path: Path) -> None:
    """Oracle: `metrics.kernel` of the same rows, taken outside the training."""
    data = sources.load("digits")
    recipe = make_recipe(steps=1, hidden=(8,), batch=16, seeds=2, rule="alternating")
    session = Session(recipe, data)
    samples = session.samples(200, seed=3)
    row = Tracked(data, seeds=2).figures(samples)
    chosen = np.random.default_rng(0).permutation(len(data.X))[:256]
    for drawn, value in zip(samples, row["kernel_by_seed"], strict=True):
        real, other = data.X[chosen[:128]], data.X[chosen[128:]]
        net = metrics.features.RandomConvolution((8, 8))
        with pytest.warns(SampleSizeWarning):
            found = metrics.kernel(real=real, generated=drawn[:128], held_out=other, features=net, random_state=0)
        assert value == pytest.approx(found.value, rel=1e-6)
    assert row["kernel_above_floor"] > 3.0  # nothing is trained
    assert Tracked(sources.load("ring", n_samples=200), seeds=2).figures(samples) == {}  # its modes are measured


def test_the_density_term_stands_apart_from_the_loss() -> None:
    """Oracle: the rule's own step, whose loss holds both; alternating training has no such term."""
    seen = figures_of(Step(0.1, 120.5, -0.1, {"density_loss": 120.0, "density": 1.0}))
    assert seen == {"value": 0.1, "generator_loss": 0.5, "discriminator_loss": -0.1, "density_term": 120.0}
    assert "density_term" not in figures_of(Step(0.1, 0.5, -0.1, {}))


# checkpoints


def nested() -> dict[str, Any]:
    adam = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], 0.1)
    adam.param_groups[0]["params"][0].grad = torch.full((2,), 0.3)
    adam.step()
    return {
        "opt": adam.state_dict(),
        "source": torch.Generator().manual_seed(1).get_state(),
        "rows": [(0.1, 1 / 3, -2.0)],
        "flag": True,
        "none": None,
    }


def test_a_checkpoint_gives_back_what_it_took(tmp_path: Path) -> None:
    state = nested()
    checkpoints.write(tmp_path, 7, state, fingerprint="a", keep=2)
    step, found = checkpoints.read(tmp_path, fingerprint="a")
    assert step == 7
    assert equal(state, found)
    assert not equal(state, {**found, "rows": [(0.1, 1 / 3, -2.1)]})


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


def test_the_last_k_are_kept_and_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / ".step-000000001.ckpt.dead.partial").write_bytes(b"left by a kill")
    for step in range(5):
        checkpoints.write(tmp_path, step, {"step": step}, fingerprint="a", keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000003.ckpt", "step-000000004.ckpt"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "foreign"])
def test_a_damaged_or_foreign_checkpoint_is_refused_and_the_previous_one_offered(tmp_path: Path, damage: str) -> None:
    checkpoints.write(tmp_path, 1, nested(), fingerprint="a", keep=3)
    last = checkpoints.write(tmp_path, 2, nested(), fingerprint="b" if damage == "foreign" else "a", keep=3)
    content = last.read_bytes()
    if damage != "foreign":
        broken = {
            "truncated": content[: len(content) // 2],
            "flipped": content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
            "empty": b"",
            "text": b"not a checkpoint at all",
        }
        last.write_bytes(broken[damage])
    with pytest.raises(CheckpointError, match=r"step-000000002.*step 1 is sound: resume with --at 1"):
        checkpoints.read(tmp_path, fingerprint="a")
    assert checkpoints.read(tmp_path, fingerprint="a", at=1)[0] == 1
    with pytest.raises(CheckpointError, match="no checkpoint of step 5; it has 1, 2"):
        checkpoints.read(tmp_path, fingerprint="a", at=5)


def test_no_checkpoint_and_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoints.read(tmp_path / "none", fingerprint="a")
    with pytest.raises(CheckpointError, match="plain values"):
        checkpoints.write(tmp_path, 1, {"x": object()}, fingerprint="a", keep=1)


# the loop


class StopAt:
    def __init__(self, at: int) -> None:
        self.at, self.rows = at, 0

    def after_step(self, done: int, step: Step) -> bool:
        return done == self.at

    def after_metrics(self, row: Any) -> bool:
        self.rows += 1
        return False


@pytest.mark.slow  # runs whole commands
@pytest.mark.parametrize("rule", train.RULES)
def test_stop_and_resume_give_the_bits_of_an_unbroken_run(tmp_path: Path, rule: str) -> None:
    session, run, data = small_run(tmp_path / "whole", rule)
    loop.train(session, run, data, fingerprint=loop.fingerprint(run))
    session, cut, data = small_run(tmp_path / "cut", rule)
    ending = loop.train(session, cut, data, fingerprint=loop.fingerprint(cut), callbacks=[StopAt(23)])
    assert (ending.reason, ending.done) == ("stopped", 23)
    torch.manual_seed(123)  # another process would have another global state
    again, _ = session_for(rule)
    cut = runs.Run.open(tmp_path / "cut")
    assert loop.resume(again, cut, fingerprint=loop.fingerprint(cut)) == 23
    loop.train(again, cut, data, fingerprint=loop.fingerprint(cut))
    for name in ("generator.safetensors", "discriminator.safetensors", "checkpoint/step-000000060.ckpt"):
        assert (run.path / name).read_bytes() == (cut.path / name).read_bytes()
    assert set(loop.read_sheets(run)) == set(loop.read_sheets(cut)) == loop.sheet_steps(60)


@pytest.mark.slow  # kills processes of every rule at several moments
def test_kill_and_resume_give_the_same_bits_for_every_rule(tmp_path: Path) -> None:
    """Three SIGKILLs at random moments for every rule; the benchmark makes it 20 each."""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent / "src")]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(here / "kill_and_resume.py"), str(tmp_path), "3", *train.RULES],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["rule"] for r in results] == list(train.RULES)
    assert all(r["differ"] == [] for r in results), results
    assert sum(r["kills"] for r in results) >= 14, results


@pytest.mark.slow  # runs whole commands
def test_a_kill_between_checkpoint_and_players_is_made_good(tmp_path: Path) -> None:
    session, run, data = small_run(tmp_path / "run")
    stale = (run.path / "generator.safetensors").read_bytes()
    loop.train(session, run, data, fingerprint=loop.fingerprint(run))
    final = (run.path / "generator.safetensors").read_bytes()
    (run.path / "generator.safetensors").write_bytes(stale)
    again, _ = session_for("primal-dual")
    loop.resume(again, run, fingerprint=loop.fingerprint(run))
    loop.train(again, run, data, fingerprint=loop.fingerprint(run))
    assert (run.path / "generator.safetensors").read_bytes() == final != stale


@pytest.mark.slow  # runs whole commands
def test_resuming_at_an_earlier_step_drops_what_came_later(tmp_path: Path) -> None:
    session, run, data = small_run(tmp_path / "run")
    loop.train(session, run, data, fingerprint=loop.fingerprint(run))
    before = [row for row in run.metrics() if row["step"] <= 57]
    again, _ = session_for("primal-dual")
    assert loop.resume(again, run, fingerprint=loop.fingerprint(run), at=57) == 57
    assert run.metrics() == before
    assert checkpoints.list_steps(run.path / "checkpoint") == [57]


def test_a_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    session, run, data = small_run(tmp_path / "run")

    class Poison(StopAt):
        def after_step(self, done: int, step: Step) -> bool:
            if done == 10:
                with torch.no_grad():
                    next(session.rule.game.G.parameters()).fill_(torch.nan)
            return False

    ending = loop.train(session, run, data, fingerprint=loop.fingerprint(run), callbacks=[Poison(0)])
    assert ending.reason == "non-finite"
    step, state = checkpoints.read(run.path / "checkpoint", fingerprint=loop.fingerprint(run))
    assert step == 9
    assert all(torch.isfinite(p).all() for p in state["rule"]["G"].values())
    assert all(torch.isfinite(p).all() for p in run.load_generator().parameters())


def test_stop_when_reads_metrics_and_refuses_nonsense() -> None:
    assert StopWhen("modes>=8").after_metrics({"modes": 8.0})
    assert not StopWhen("modes>7.5").after_metrics({"modes": 7.0})
    for words in ("modes", "modes==8", "modes>=many", ">=3"):
        with pytest.raises(InputError, match="stop_when"):
            StopWhen(words)
    with pytest.raises(InputError, match="measures modes"):
        StopWhen("fid<3").after_metrics({"modes": 8.0})


def test_schedules_are_functions_of_the_step() -> None:
    recipe = make_recipe(steps=100, hold=0.5, noise=0.4, noise_end=0.1, noise_share=0.5, r1=2.0, r1_every=4)
    assert [recipe.learning_rate_factor(t) for t in (0, 50, 75)] == [1.0, 1.0, 0.5]
    assert recipe.noise_at(0) == 0.4
    assert recipe.noise_at(25) == pytest.approx(0.2)
    assert recipe.noise_at(90) == pytest.approx(0.1)
    # 4 times r1 every fourth step, and (noise / noise_end)^2 = 16 times as much under the first noise
    assert [recipe.r1_at(t) for t in range(4)] == pytest.approx([128.0, 0.0, 0.0, 0.0])
    assert [recipe.r1_at(t) for t in (48, 52, 96)] == pytest.approx([16 ** (1 - 48 / 50) * 8.0, 8.0, 8.0])
    assert make_recipe(noise_share=0.0, r1=2.0).r1_at(0) == 2.0


@pytest.mark.slow  # runs whole commands
def test_a_finished_run_goes_on_to_the_bits_of_a_longer_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: one run of all steps, whose schedules until then do not depend on the length."""
    line = ["train", "ring", "--metrics-every", "2", "--checkpoint-every", "4", *SMALL, "--hold", "1"]
    line += ["--noise-share", "0", "--average", "0.9"]
    long, short = str(tmp_path / "long"), str(tmp_path / "short")
    assert cli.run([*line, "--steps", "12", "--out", long]) == 0
    assert cli.run([*line, "--steps", "6", "--out", short]) == 0
    capsys.readouterr()
    assert cli.run(["train", "--resume", short, "--steps", "5"]) == 2
    assert "`--steps` must be at least 6" in capsys.readouterr().err
    assert runs.Run.open(short).config.options["steps"] == 6
    assert cli.run(["train", "--resume", short, "--steps", "12"]) == 0
    assert "new length" not in capsys.readouterr().out
    for name in ("generator.safetensors", "checkpoint/step-000000012.ckpt", "metrics.jsonl"):
        assert (tmp_path / "short" / name).read_bytes() == (tmp_path / "long" / name).read_bytes()
    config = runs.Run.open(short).config
    assert config.options["steps"] == 12
    assert config.command_line.endswith("--steps 12")
    assert config.command_line.count(" && saddlegan train --resume ") == 1


@pytest.mark.slow  # runs whole commands
def test_schedules_that_follow_the_length_are_said_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the mixtures' recipe: the learning rate falls from the first step on, and noise shrinks."""
    out = str(tmp_path / "run")
    assert cli.run(["train", "ring", "--steps", "6", "--checkpoint-every", "3", *SMALL, "--out", out]) == 0
    assert cli.run(["train", "--resume", out, "--steps", "8", "--at", "3"]) == 2
    said = capsys.readouterr().err
    assert "is at step 3 of 6" in said
    assert "learning rate, instance noise" in said
    assert runs.Run.open(out).config.options["steps"] == 6
    assert cli.run(["train", "--resume", out, "--steps", "8"]) == 0
    assert "from here on the new length sets: learning rate, instance noise" in capsys.readouterr().out
    assert runs.Run.open(out).metrics()[-1]["step"] == 8


# the command


@pytest.mark.slow  # trains three runs
def test_train_resume_and_compare_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "ring"
    line = ["train", "ring", "--steps", "20", "--metrics-every", "5", "--checkpoint-every", "5", *SMALL]
    assert cli.run([*line, "--out", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "report.html")
    twin = json.loads((run / "report.json").read_text())
    assert {"training", "progress", "modes"} <= {section["id"] for section in twin["sections"]}
    assert cli.run(["train", "--resume", str(run)]) == 0  # nothing is left to do, and it says so
    assert "20 of 20" in capsys.readouterr().out
    stopped = tmp_path / "stopped"
    assert cli.run([*line, "--out", str(stopped), "--rule", "primal-dual", "--stop-when", "value<99"]) == 0
    assert runs.Run.open(stopped).metrics()[-1]["step"] == 2  # the first line after that of step 0
    other = tmp_path / "digits"
    assert cli.run(["fit", "digits", "--out", str(other)]) == 0
    capsys.readouterr()
    assert cli.run(["compare", str(run), str(other), "--out", str(tmp_path / "unlike.png")]) == 0
    said = capsys.readouterr().out
    assert "ring, 2 values a row:" in said, "unlike data stand in tables of their own"
    assert "digits, 64 values a row:" in said
    assert (tmp_path / "unlike-ring.png").exists()
    assert not (tmp_path / "unlike.png").exists()
    picture = tmp_path / "compare.png"
    capsys.readouterr()
    assert cli.run(["compare", str(run), str(stopped), "--out", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "alternating" in out
    assert "primal-dual" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("given", "expected"), [("0", ()), (0.0, ()), ("3", (3.0,)), (2.5, (2.5,)), (["1", "16"], (1.0, 16.0)), ([], ())]
)
def test_scales_of_features_are_read(given: object, expected: tuple[float, ...]) -> None:
    assert make_recipe(fourier=given).fourier == expected


@pytest.mark.parametrize("given", [["1", "2", "3"], ["16", "1"], -1.0, "nan", "inf", ["2", "2"]])
def test_scales_that_are_none_are_refused(given: object) -> None:
    with pytest.raises(InputError, match="`fourier`"):
        make_recipe(fourier=given)


@pytest.mark.slow  # runs whole commands
def test_many_seeds_equal_single_runs_and_are_tabled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["train", "ring", "--steps", "12", "--metrics-every", "12", *SMALL]
    assert cli.run([*line, "--seeds", "3", "--out", str(tmp_path / "all")]) == 0
    assert "over 3 seeds" in capsys.readouterr().out
    joint = runs.Run.open(tmp_path / "all").metrics()[-1]
    for seed in range(3):
        single = Session(
            make_recipe(steps=12, hidden=(8,), batch=16, points=8, seed=seed), sources.load("ring", n_samples=200)
        )
        for _ in range(12):
            single.step()
        alone = loop.measure(single, sources.load("ring", n_samples=200))
        assert joint["high_quality_by_seed"][seed] == pytest.approx(alone["high_quality"], abs=2e-3)
    assert (tmp_path / "all" / "generator-seed-2.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "DATA"),
        (["train", "ring", "--resume", "x"], "resume"),
        (["train", "ring", "--steps", "0"], "steps"),
        (["train", "ring", "--set", "nonsense=1"], "no option of the recipe"),
        (["train", "ring", "--set", "noise"], "NAME=VALUE"),
        (["train", "ring", "--objective", "wgan"], "`--objective` must be one of"),
        (["train", "ring", "--at", "3"], "at"),
        (["train", "digits", "--start", "collapsed:1", "--steps", "1"], "known modes"),
        (["train", "ring", "--stop-when", "soon"], "`--stop-when`"),
        (["train", "no-such-data"], "`DATA` must be one of"),
    ],
)
def test_wrong_command_lines_leave_one_line_and_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    out = tmp_path / "run"
    extra = [] if "--resume" in words else ["--out", str(out)]
    assert cli.run([*words, *extra]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not out.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow  # waits for processes to train and to end
def test_a_signal_saves_and_exits_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    words = ["train", "ring", "--steps", "1000000", "--metrics-every", "5", "--out", str(out), *SMALL]
    code = f"from saddlegan.workbench import cli; import sys; sys.argv[1:] = {words!r}; cli.main()"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src"), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    lines = out / "metrics.jsonl"  # the first line is that of step 0
    while not (lines.exists() and lines.read_text().count("\n") > 1) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(number)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 128 + number
    assert "--resume" in said
    done = checkpoints.list_steps(out / "checkpoint")[-1]
    assert done >= 5
    assert runs.Run.open(out).metrics()[-1]["step"] <= done


@pytest.mark.slow  # runs whole commands
def test_images_train_with_the_convolutional_pair(tmp_path: Path) -> None:
    line = ["train", "digits", "--steps", "2", "--metrics-every", "1", "--rule", "proximal", "--batch", "8"]
    assert cli.run([*line, "--set", "hidden=4", "--out", str(tmp_path / "digits")]) == 0
    run = runs.Run.open(tmp_path / "digits")
    assert run.sample(3, seed=0).shape == (3, 64)
    assert run.config.discriminator is not None
    assert run.config.discriminator.kind == "image-discriminator"
    assert defaults_for(sources.load("digits"), "proximal")["network"] == "image"


def test_few_modes_take_the_narrow_pair() -> None:
    wide = Recipe.model_validate({}).hidden
    assert defaults_for(sources.load("grid", n_samples=50), "primal-dual").get("hidden", wide) == wide
    ring = sources.load("ring", n_samples=50)
    assert max(defaults_for(ring, "primal-dual")["hidden"]) < max(wide)
    assert defaults_for(ring, "alternating")["fourier"] == defaults_for(ring, "primal-dual")["fourier"] == (1.0, 16.0)
    assert defaults_for(ring, "primal-dual", "collapsed:1")["fourier"] == (3.0,)
    assert defaults_for(ring, "primal-dual", "collapsed:1").get("hidden", wide) == wide


def test_the_quick_rates_are_for_few_columns_and_a_start_of_their_own() -> None:
    def options(columns: int, start: str = "random", rule: str = "alternating") -> set[str]:
        X = np.random.default_rng(0).standard_normal((30, columns))
        data = sources.Data("rows", X, DataSpec(source="rows", shape=X.shape), "rows")
        return set(defaults_for(data, rule, start))

    assert options(2) >= set(QUICK) | {"fourier"}
    assert options(3) >= set(QUICK)
    assert not options(4) & (set(QUICK) | {"fourier"})
    assert "gaussian_gain" not in options(2, "collapsed:1")
    assert "gaussian_gain" not in defaults_for(sources.load("ring", n_samples=200), "alternating")
    assert options(2, rule="primal-dual") == {"fourier", "gaussians"}
    assert set(STEADY) == set(QUICK)
    assert STEADY != QUICK


def test_the_gain_scales_the_first_weights_of_the_gaussians_alone() -> None:
    ring = sources.load("ring", n_samples=50)
    options: dict[str, Any] = {"hidden": (8,), "bits": 3, "gaussians": 2, "seed": 4}
    (usual, D), (narrow, D_narrow) = (
        make_pair(make_recipe(**options, gaussian_gain=gain), ring, 4) for gain in (1.0, 0.25)
    )
    first, *others = usual.parameters()
    first_narrow, *others_narrow = narrow.parameters()
    assert torch.equal(first_narrow[:, :3], first[:, :3])
    assert torch.equal(first_narrow[:, 3:], 0.25 * first[:, 3:])
    assert all(map(torch.equal, others, others_narrow))
    assert all(map(torch.equal, D.parameters(), D_narrow.parameters()))
    with pytest.raises(InputError, match="belongs to `network` mlp"):
        make_recipe(network="image", hidden=(8,), gaussian_gain=0.5)


@pytest.mark.slow  # starts two trainings
def test_a_run_that_trains_is_not_resumed_judged_or_replaced(tmp_path: Path) -> None:
    run = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src"), "OMP_NUM_THREADS": "1"}
    saddlegan = [sys.executable, "-c", "from saddlegan.workbench.cli import main; main()"]
    options = ["--steps", "100000", "--checkpoint-every", "50", "--metrics-every", "50", "--out", str(run)]
    first = subprocess.Popen(
        [*saddlegan, "train", "ring", *SMALL, *options], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert first.stdout is not None
    try:
        while not first.stdout.readline().startswith("step 50/"):
            assert first.poll() is None
        for words in (["train", "--resume"], ["certify"], ["train", "ring", "--overwrite", "--out"]):
            done = subprocess.run([*saddlegan, *words, str(run)], capture_output=True, text=True, env=environment)
            assert done.returncode == 2, done.stderr
            assert f"is being written by process {first.pid} on " in done.stderr
            assert done.stderr.count("\n") == 1
    finally:
        first.kill()
        first.communicate()
    metrics = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().split("\n")[:-1]]
    assert metrics == sorted(set(metrics))
    assert holder(run / ".lock") is None


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_one_bar_counts_what_has_a_total_and_what_has_none(monkeypatch, terminal):
    out = _Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    with progress.progress("parts") as show:
        show("computed", 3, None, "seed-2")
        show("training", 7, 9, "V 0.5")
    said = out.getvalue()
    assert "training" in said
    assert "V 0.5" in said
    if not terminal:
        assert [line.split(" parts")[0] for line in said.splitlines()] == ["computed: 3", "training: 7 of 9"]
