"""The command line, run in this process. Oracle: the estimators called in Python, and the files on disk."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saddlegan import fit
from saddlegan.errors import SaddleganError
from saddlegan.workbench import cli
from saddlegan.workbench.commands import fit as fit_command
from saddlegan.workbench.data import sources as data
from saddlegan.workbench.runs import folder as runs


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str], str]:
    """Run one command; return its exit code, its lines on stdout, and stderr."""
    capsys.readouterr()
    code = cli.run([str(word) for word in words])
    seen = capsys.readouterr()
    return code, seen.out.splitlines(), seen.err


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command that must fail cleanly: exit code 2, nothing on stdout, one line on stderr, which is returned."""
    code, lines, complaint = call(capsys, *words)
    assert code == 2
    assert lines == []
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    return complaint.removeprefix("error: ").rstrip("\n")


def under(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_refused_fails_on_success(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError):
        refused(capsys, "data")


@pytest.mark.slow  # runs whole commands
def test_fit_digits_writes_a_whole_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, lines, complaint = call(capsys, "fit", "digits", "--out", out)
    assert (code, complaint) == (0, "")
    assert lines[-1] == str(out / "report.html")
    facts = dict(line.split(": ", 1) for line in lines[:-1])
    model = fit.QuadraticWGAN(16).fit(data.load("digits").X)
    assert float(facts["value (primal)"]) == pytest.approx(model.solution_.value, rel=1e-8)
    assert float(facts["beta"]) == pytest.approx(model.beta_, rel=1e-8)
    assert under(tmp_path) == [
        "run",
        "run/card.md",
        "run/certificate.json",
        "run/config.json",
        "run/discriminator.safetensors",
        "run/generator.safetensors",
        "run/report.html",
        "run/report.json",
        "run/samples.png",
    ]
    run = runs.Run.open(out)
    np.testing.assert_allclose(run.sample(40, 5), model.sample(40, random_state=5), rtol=1e-12, atol=1e-14)
    assert run.read_json("certificate.json")["solution"]["status"] == "OPTIMAL"
    assert "--beta auto" in run.config.command_line
    twin = run.read_json("report.json")
    assert [section["id"] for section in twin["sections"]] == [
        "findings", "certificate", "limits", "samples", "spectrum", "components", "witness", "data", "repeat",
    ]  # fmt: skip
    # the witness's oracle: u^T (C_X - C_G) u on the generator's own covariance
    X, F = data.load("digits").X, run.load_generator().moments()[1].detach().numpy()  # type: ignore[operator]
    difference = np.cov(X.T, bias=True) - F.T @ F
    shown = next(section["data"] for section in twin["sections"] if section["id"] == "witness")
    u = np.array(shown["direction"])
    assert u @ difference @ u == pytest.approx(shown["value"], rel=1e-9)
    assert shown["value"] == pytest.approx(np.linalg.eigvalsh(difference)[-1], rel=1e-9)


@pytest.mark.slow  # runs whole commands
def test_the_command_line_in_the_config_repeats_the_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    first = [
        "fit", "swiss-roll", "--n-latent", "3", "--features", "relu:12", "--beta", "0.01", "--no-center", "--seed", "4",
        "--n-samples", "300", "--out", str(tmp_path / "a b"),
    ]  # fmt: skip
    assert call(capsys, *first)[0] == 0
    import shlex

    words = shlex.split(runs.Run.open(tmp_path / "a b").config.command_line)
    assert words[0] == "saddlegan"
    words[-1] = str(tmp_path / "again")
    assert call(capsys, *words[1:])[0] == 0
    for name in ("generator.safetensors", "discriminator.safetensors", "samples.png"):
        assert (tmp_path / "a b" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.slow  # runs whole commands
@pytest.mark.parametrize(
    "options",
    [
        ["--model", "linear", "--beta", "0.2"],
        ["--features", "polynomial:2", "--n-latent", "2"],
        ["--beta", "99", "--no-center"],
    ],
)
def test_every_model_makes_a_report(options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = "gaussian:4,1,0.25,0.1"
    code, lines, complaint = call(capsys, "fit", source, "--n-samples", 200, *options, "--out", tmp_path / "r")
    assert (code, complaint) == (0, "")
    code, again, _ = call(capsys, "report", tmp_path / "r")
    assert (code, again) == (0, lines[-1:])


@pytest.mark.slow  # runs whole commands
def test_sampling_is_deterministic(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    call(capsys, "fit", "digits", "--out", tmp_path / "run")
    for ending in (".npy", ".npz", ".csv", ".parquet", ".png"):
        first, second = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
        for path in (first, second):
            assert call(capsys, "sample", tmp_path / "run", "-n", 30, "--seed", 5, "--out", path)[:2] == (
                0,
                [str(path)],
            )
        assert first.read_bytes() == second.read_bytes()
        if ending != ".png":
            back = data.load(first)
            assert np.array_equal(back.X, runs.Run.open(tmp_path / "run").sample(30, 5))
            assert back.image_shape == ((8, 8) if ending in (".npy", ".npz") else None)
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size == (6 * 50 - 2, 5 * 50 - 2)
    other = tmp_path / "c.npy"
    call(capsys, "sample", tmp_path / "run", "-n", 30, "--seed", 6, "--out", other)
    assert not np.array_equal(np.load(other), np.load(tmp_path / "a.npy"))
    assert not [name for name in under(tmp_path) if "partial" in name]


def test_data_lists_and_describes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, lines, _ = call(capsys, "data")
    assert code == 0
    assert [line.split(":")[0] for line in lines[:5]] == ["digits", "ring", "grid", "swiss-roll", "gaussian"]
    code, lines, _ = call(capsys, "data", "digits", "--out", tmp_path / "d.png")
    facts = dict(line.split(": ", 1) for line in lines[:-1])
    X = data.load("digits").X
    assert facts["image"] == "8 x 8"
    assert float(facts["total variance"]) == pytest.approx(X.var(0).sum(), rel=1e-5)
    assert lines[-1] == str(tmp_path / "d.png")
    assert dict(line.split(": ", 1) for line in call(capsys, "data", "ring")[1])["modes"] == "8, sd 0.01"


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saddlegan.workbench.terminal.console.on_terminal", lambda: True)
    _, lines, _ = call(capsys, "data", "ring", "--n-samples", 20)
    assert "ring" in lines[0]
    assert any("largest variance" in line and "│" in line for line in lines)


X = np.random.default_rng(0).standard_normal((9, 3))
BAD_ARRAYS = {
    "nan": np.where(X[4, 1] == X, np.nan, X),
    "infinity": np.where(X[4, 1] == X, np.inf, X),
    "empty": X[:0],
    "one row": X[:1],
    "one dimension": X[0],
    "strings": X.astype(str),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_data_is_refused_in_the_same_words(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "bad.npy"
    np.save(path, BAD_ARRAYS[name])
    for command in ("fit", "data"):
        words = refused(capsys, command, path, *(["--out", tmp_path / "run"] if command == "fit" else []))
        with pytest.raises(SaddleganError) as caught:
            data.load(path)
        assert words == str(caught.value)
    assert under(tmp_path) == ["bad.npy"]


BAD_OPTIONS = {
    "negative beta": (["fit", "digits", "--beta", "-1"], "`--beta` must be a finite number of at least 0"),
    "beta is nan": (["fit", "digits", "--beta", "nan"], "`--beta` must be a finite number of at least 0"),
    "beta is a word": (["fit", "digits", "--beta", "small"], "`--beta` must be"),
    "auto for linear": (["fit", "digits", "--model", "linear", "--beta", "auto"], "`--beta` must be"),
    "beta too small": (["fit", "digits", "--beta", "0.001"], "the smallest feasible beta is"),
    "no latents": (["fit", "digits", "--n-latent", "0"], "`--n-latent` must be a whole number of at least 1"),
    "features": (["fit", "digits", "--features", "fourier:3"], "`--features` must be"),
    "no features": (["fit", "digits", "--features", "relu:0"], "`--features` must be"),
    "features with no latents": (["fit", "digits", "--features", "relu:4", "--n-latent", "0"], "`--n-latent`"),
    "too many features": (["fit", "digits", "--features", "polynomial:9"], "lower the degree"),
    "features for linear": (["fit", "ring", "--model", "linear", "--features", "relu:4"], "quadratic"),
    "model": (["fit", "digits", "--model", "cubic"], "cubic"),
    "source": (["fit", "nowhere"], "built-in|must be one of digits"),
    "seed": (["fit", "ring", "--seed", "-1"], "`--seed` must be a whole number from 0 to 4294967295"),
    "image shape": (["fit", "ring", "--image-shape", "2by1"], "`--image-shape` must be HxW"),
    "image shape of another size": (["fit", "ring", "--image-shape", "3x3"], "2 values"),
    "n samples": (["fit", "ring", "--n-samples", "0"], "`--n-samples`"),
    "unknown option": (["fit", "ring", "--wrong"], "--wrong"),
    "unknown command": (["frobnicate"], "frobnicate"),
    "missing data": (["fit"], "DATA"),
    "missing run": (["report", "no-such-run"], "nothing is there"),
    "sample ending": (["sample", "no-such-run", "--out", "x.jpg"], "`--out` must end in"),
    "sample of nothing": (["sample", "no-such-run", "--out", "x.png"], "nothing is there"),
    "data ending": (["data", "ring", "--out", "x.gif"], "`--out` must end in"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options_are_refused(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, message = BAD_OPTIONS[name]
    import re

    assert re.search(message, refused(capsys, *words))
    assert under(tmp_path) == []


def test_the_command_line_speaks_the_words_of_the_estimator(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    X = data.load("digits").X
    for options, estimator in (
        (["--beta", "-1"], fit.QuadraticWGAN(beta=-1.0)),
        (["--beta", "0.001"], fit.QuadraticWGAN(beta=0.001)),
        (["--n-latent", "0"], fit.QuadraticWGAN(0)),
        (["--model", "linear", "--beta", "-1"], fit.LinearWGAN(beta=-1.0)),
    ):
        with pytest.raises(SaddleganError) as caught:
            estimator.fit(X)
        said = (
            str(caught.value)
            .replace("`n_latent`", "`--n-latent`")
            .replace("`beta`=", "`--beta` ")
            .replace("`beta`", "`--beta`")
        )
        found = refused(capsys, "fit", "digits", *options, "--out", tmp_path / "r")
        assert found.startswith(said.partition(", got")[0])
    assert under(tmp_path) == []


@pytest.mark.slow  # runs whole commands
def test_bad_images_are_named_and_skipped_on_request(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "pics").mkdir()
    for index in range(12):
        Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(tmp_path / "pics" / f"{index}.png")
    (tmp_path / "pics" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    words = refused(capsys, "fit", tmp_path / "pics", "--n-latent", 3, "--out", tmp_path / "run")
    assert "broken.png" in words
    assert "--skip-bad" in words
    assert not (tmp_path / "run").exists()
    options = ["--n-latent", 3, "--out", tmp_path / "run", "--skip-bad"]
    assert call(capsys, "fit", tmp_path / "pics", *options)[0] == 0
    assert "broken.png" in (tmp_path / "run" / "report.html").read_text()
    Image.new("L", (7, 6)).save(tmp_path / "pics" / "wide.png")
    words = refused(capsys, "fit", tmp_path / "pics", *options, "--overwrite")
    assert "0.png has 6 x 6, wide.png 7 x 6" in words


@pytest.mark.slow  # runs whole commands
def test_an_existing_run_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit_ring = ["fit", "ring", "--n-samples", "50", "--out", out]
    assert call(capsys, *fit_ring)[0] == 0
    before = (out / "config.json").read_bytes()
    words = refused(capsys, *fit_ring)
    assert "exists; choose another path or pass --overwrite" in words
    with pytest.raises(SaddleganError) as caught:
        runs.check_destination(out, overwrite=False)
    assert str(caught.value).replace("`out`", "`--out`") == words
    assert (out / "config.json").read_bytes() == before
    assert call(capsys, *fit_ring, "--seed", 3, "--overwrite")[0] == 0
    assert runs.Run.open(out).config.seed == 3
    (out / "mine.txt").write_text("keep")
    assert "mine.txt" in refused(capsys, *fit_ring, "--overwrite")
    assert (out / "mine.txt").read_text() == "keep"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow  # runs whole commands
@pytest.mark.parametrize(
    ("stage", "code"), [("config", errno.EROFS), ("samples", errno.EACCES), ("report.html", errno.ENOSPC)]
)
def test_a_disk_that_refuses_leaves_nothing(
    stage: str, code: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if stage in self.name:
            raise OSError(code, "the disk refuses")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    words = refused(capsys, "fit", "ring", "--n-samples", 40, "--out", tmp_path / "runs" / "a")
    assert "the disk refuses" in words
    assert under(tmp_path) == []


@pytest.mark.slow  # runs whole commands
def test_a_path_below_a_file_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "file" in refused(capsys, "fit", "ring", "--n-samples", 40, "--out", tmp_path / "file" / "run")
    assert under(tmp_path) == ["file"]
    assert call(capsys, "fit", "ring", "--n-samples", 40, "--out", tmp_path / "run")[0] == 0
    assert "cannot write" in refused(capsys, "sample", tmp_path / "run", "--out", tmp_path / "none" / "x.npy")


@pytest.mark.slow  # runs whole commands
def test_a_damaged_run_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    call(capsys, "fit", "digits", "--out", out)
    whole = (out / "generator.safetensors").read_bytes()
    (out / "generator.safetensors").write_bytes(whole[:100])
    for command in (["report", out], ["sample", out, "--out", tmp_path / "x.npy"]):
        assert "generator.safetensors is damaged" in refused(capsys, *command)
    (out / "generator.safetensors").write_bytes(whole)
    (out / "certificate.json").write_text("{}")
    assert call(capsys, "report", out)[0] == 0  # a run without a solution still shows its samples
    (out / "certificate.json").write_text('{"solution": {"status": "OPTIMAL"}}')
    assert "certificate.json is damaged" in refused(capsys, "report", out)
    (out / "config.json").write_text("{}")
    assert "not the config of a saddlegan run" in refused(capsys, "report", out)
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.slow  # runs whole commands
def test_a_report_survives_the_loss_of_its_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    call(capsys, "fit", tmp_path / "x.npy", "--n-latent", 2, "--out", tmp_path / "run")
    (tmp_path / "x.npy").unlink()
    assert "--without-data" in refused(capsys, "report", tmp_path / "run")
    assert call(capsys, "report", tmp_path / "run", "--without-data")[0] == 0
    twin = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "witness" not in [section["id"] for section in twin["sections"]]
    assert "could not be loaded again" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow  # runs whole commands
def test_names_are_escaped_in_the_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "<script>alert(1)<&script>.npy"
    np.save(path, X)
    call(capsys, "fit", path, "--n-latent", 2, "--out", tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_package_runs_as_a_module() -> None:
    """As `torchrun -m saddlegan` starts it."""
    from saddlegan import __version__

    done = subprocess.run([sys.executable, "-m", "saddlegan", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"saddlegan {__version__}\n"


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    from saddlegan import __version__

    assert call(capsys, "--version") == (0, [f"saddlegan {__version__}"], "")
    code, lines, _ = call(capsys, "--help")
    assert code == 0
    assert call(capsys) == (0, lines, "")
    assert {"data", "fit", "sample", "report"} <= {line.split()[0] for line in lines if line.strip()}
    assert call(capsys, "fit", "--help")[1][0].startswith("Usage: saddlegan fit")


def test_help_imports_nothing_heavy() -> None:
    script = "import sys; from saddlegan.workbench import cli; cli.run(['--help']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=_environment()
    )
    loaded = set(done.stdout.split())
    assert "saddlegan.workbench.cli" in loaded
    assert not loaded & {"typer", "pydantic", "numpy", "torch", "sklearn", "matplotlib", "pandas", "scipy"}


@pytest.mark.slow  # runs whole commands
def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(fit_command, "parse_features", broken)
    with pytest.raises(ZeroDivisionError):
        cli.run(["fit", "ring"])


def test_interruption_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("saddlegan.workbench.report.page.write", interrupt)
    code, _, complaint = call(capsys, "fit", "ring", "--n-samples", 40, "--out", tmp_path / "run")
    assert (code, complaint) == (130, "error: interrupted\n")
    assert under(tmp_path) == []


def _environment() -> dict[str, str]:
    import os

    source = str(Path(cli.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow  # starts and kills processes
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_kill_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, time; from saddlegan.workbench import cli; from saddlegan.workbench.report import page\n"
        "def slow(run, **options): print('staged', flush=True); time.sleep(60)\n"
        "page.write = slow; sys.argv[1:] = ['fit', 'ring', '--n-samples', '40', '--out', 'run']; cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=_environment()
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "staged\n"
        assert [name for name in under(tmp_path) if name.endswith("config.json")]
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
        assert time.monotonic() - started < 30
    assert under(tmp_path) == []
