"""Every command that makes a run, through every command that reads one.

Oracles: the data as the run saw them, computed again with numpy; a solved pair is proved; a page is written anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from saddlegan.workbench import cli
from saddlegan.workbench.report.sections import equilibrium
from saddlegan.workbench.runs import opened

DIGITS: Any = load_digits()
SHORT = ["--steps", "8", "--metrics-every", "4", "--checkpoint-every", "8"]
FAST = ["--steps", "3", "--restarts", "1", "--batch-size", "32", "--lam", "1"]
PICTURES = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour pictures of two sizes, none square."""
    path = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        side = (20, 26)[number % 2]
        pixels = rng.integers(0, 256, (side, 24, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path / f"{number:02}.png")
    return path


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as rows that do not say their shape."""
    path = tmp_path_factory.mktemp("rows") / "flat.npy"
    np.save(path, DIGITS.data[:300])
    return path


MAKERS: dict[str, list[str]] = {
    "quadratic": ["fit", "digits"],
    "linear": ["fit", "ring", "--model", "linear", "--n-samples", "400"],
    "polynomial": ["fit", "ring", "--model", "polynomial", "--n-samples", "100"],
    "relu": ["fit", "ring", "--model", "relu", "--n-samples", "100"],
    "relu-line": ["fit", "gaussian:1", "--model", "relu", "--n-samples", "100"],
    "features": ["fit", "ring", "--features", "relu:32", "--n-latent", "4", "--n-samples", "400"],
    "progressive-digits": ["fit", "digits", "--progressive", "--resolutions", "4"],
    "progressive-flat": ["fit", "FLAT", "--progressive", "--resolutions", "2,4", "--image-shape", "8x8"],
    "progressive-folder": ["fit", "FOLDER", "--progressive", "--resolutions", "4,8", "--cache", "CACHE"],
    "progressive-crop": [
        "fit",
        "FOLDER",
        "--progressive",
        "--resolutions",
        "8",
        "--crop",
        "16@12,10",
        "--cache",
        "CACHE",
    ],
    "train-ring": ["train", "ring", "--n-samples", "400", *SHORT],
    "train-proximal": ["train", "ring", "--rule", "proximal", "--objective", "vanilla", "--n-samples", "400", *SHORT],
    "train-digits": ["train", "digits", *SHORT, "--batch", "16", "--hidden", "8"],
}
IMAGES = {
    name
    for name in MAKERS
    if "ring" not in name and name not in ("linear", "polynomial", "relu", "relu-line", "features", "train-proximal")
}


@pytest.fixture(scope="module", params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, folder: Path, flat: Path) -> Path:
    """One run of each kind."""
    root = tmp_path_factory.mktemp(request.param)
    places = {"FOLDER": str(folder), "FLAT": str(flat), "CACHE": str(root / "cache")}
    words = [places.get(word, word) for word in MAKERS[request.param]]
    out = root / request.param
    assert cli.run([*words, "--out", str(out)]) == 0
    return out


@pytest.mark.slow  # runs whole commands
def test_the_data_come_back_as_the_run_saw_them(made: Path) -> None:
    run = opened.load(made)
    X = run.data.X
    assert X.shape == run.run.config.data.shape
    if made.name == "progressive-digits":
        means = (DIGITS.images / 16).reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(len(X), -1)
        np.testing.assert_allclose(X, means, atol=1e-12)
    if made.name == "progressive-flat":
        means = DIGITS.images[:300].reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(len(X), -1)
        np.testing.assert_allclose(X, means, atol=1e-12)
    if made.name == "progressive-crop":
        with Image.open(Path(run.run.config.data.source) / "00.png") as image:
            box = np.asarray(image, dtype=np.float64)[2:18, 4:20]
        means = box.reshape(8, 2, 8, 2, 3).mean((1, 3))
        # Pillow's box filter rounds to bytes
        np.testing.assert_allclose(X[0].reshape(8, 8, 3), means, atol=1.0)


@pytest.mark.slow  # runs whole commands
def test_every_reader_takes_every_run(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    assert cli.run(["certify", str(made), *FAST]) == 0
    said = capsys.readouterr().out
    found = equilibrium.read(opened.load(made).run)
    assert found is not None
    if made.name in ("quadratic", "progressive-digits", "progressive-flat"):
        assert found.proved
    if made.name in ("progressive-folder", "progressive-crop"):
        # bytes are solved in single precision, whose rounding is no proof of optimality and nothing against it
        assert {each.verdict for each in found.certificates} == {"undecided"}
        assert {each.bound for each in found.certificates} == {"none"}
    if made.name == "train-ring":
        assert said.startswith("'non-saturating' is not zero-sum: judged by its zero-sum twin 'vanilla'")
        assert "--norm l2" in said
        assert (found.objective, found.norm) == ("vanilla", "l2")
    assert cli.run(["sample", str(made), "-n", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy").reshape(5, -1).shape[1] == opened.load(made).run.config.data.shape[1]
    before = json.loads((made / "report.json").read_text())
    assert cli.run(["report", str(made)]) == 0
    after = json.loads((made / "report.json").read_text())
    assert [part["id"] for part in after["sections"]] == [part["id"] for part in before["sections"]]
    assert "could not be loaded again" not in (made / "report.html").read_text()
    explored = cli.run(["explore", str(made), "--out", str(tmp_path / "page.html")])
    solved_pictures = made.name in IMAGES and not made.name.startswith("train")
    assert explored == (0 if solved_pictures else 2)
    shutil.copytree(made, tmp_path / "twin")
    capsys.readouterr()
    assert cli.run(["compare", str(made), str(tmp_path / "twin"), "--out", str(tmp_path / "c.png")]) == 0
    compared = capsys.readouterr().out
    assert ("solved, value" in compared) != made.name.startswith("train")
    assert (tmp_path / "c.png").exists() == made.name.startswith("train")
    assert not recwarn.list


@pytest.mark.slow  # runs whole commands
def test_data_that_changed_do_not_destroy_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make_rows: Callable[[int], np.ndarray]
) -> None:
    source, out = tmp_path / "x.npy", tmp_path / "run"
    np.save(source, make_rows(50))
    assert cli.run(["fit", str(source), "--n-latent", "2", "--out", str(out)]) == 0
    page = (out / "report.html").read_bytes()
    np.save(source, make_rows(40))
    for command in ("report", "certify"):
        assert cli.run([command, str(out)]) == 2
        assert "has changed" in capsys.readouterr().err
        assert (out / "report.html").read_bytes() == page
    assert cli.run(["report", str(out), "--without-data"]) == 0
    assert "could not be loaded again" in (out / "report.html").read_text()


@pytest.fixture
def make_rows() -> Callable[[int], np.ndarray]:
    """Rows (n, 3) of a fixed seed."""
    return lambda n: np.random.default_rng(0).standard_normal((n, 3))
