"""Oracles: Pillow read by hand, block means by numpy; a whole build for a killed one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saddlegan import fit
from saddlegan.errors import DataError, InputError, InputTypeError
from saddlegan.fit.progressive import _stages
from saddlegan.fit.progressive._images import block_mean
from saddlegan.workbench import cli
from saddlegan.workbench.data import pyramid
from saddlegan.workbench.data.decoding import Crop, mean_bytes
from saddlegan.workbench.data.pyramid import Pyramid, build
from test_procogan import pictures

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    """Thirty images in two sub-folders: PNG, PGM, JPEG of several sizes, and a text file."""
    root = tmp_path / "faces"
    (root / "a").mkdir(parents=True)
    (root / "b").mkdir()
    for i, image in enumerate(pictures(n=30, side=32, c=3)):
        picture = Image.fromarray(image).resize((32 + i % 3, 40), Image.Resampling.BICUBIC)
        if i % 3 == 2:
            picture = picture.convert("L")
        name = f"{'ab'[i % 2]}/{i:02d}" + (".png", ".jpg", ".pgm")[i % 3]
        picture.save(root / name)
    (root / "a" / "notes.txt").write_text("not an image")
    return root


def test_the_levels_are_crops_and_their_means(folder, tmp_path):
    cached = build(folder, resolutions=(4, 8, 16), cache=tmp_path / "cache")
    assert cached.shape == (30, 16, 16, 3)
    paths = sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg", ".pgm"))
    with Image.open(paths[3]) as image:
        w, h = image.size
        square = image.convert("RGB").crop(((w - 32) // 2, (h - 32) // 2, (w - 32) // 2 + 32, (h - 32) // 2 + 32))
        if min(w, h) == 32:
            expected = np.asarray(square.resize((16, 16), Image.Resampling.BOX))
            np.testing.assert_array_equal(cached.array(16)[3], expected)
    finest = torch.from_numpy(np.array(cached.array(16)))
    for r in (4, 8):
        np.testing.assert_array_equal(cached.array(r), block_mean(finest, r).numpy())
        np.testing.assert_array_equal(cached.array(r), mean_bytes(finest.numpy(), r))
    with pytest.raises(InputError, match="`resolution`"):
        cached.array(32)


def test_fits_from_the_cache_equal_fits_from_the_array(folder, tmp_path, monkeypatch):
    cached = build(folder, resolutions=(4, 8, 16), cache=tmp_path / "cache")
    a, b = (fit.ProCoGAN((4, 8, 16), (3, 5, 9)).fit(X) for X in (cached, np.array(cached.array(16))))
    np.testing.assert_array_equal(a.components_, b.components_)
    monkeypatch.setattr(_stages, "WIDE_ROWS", 8)
    with pytest.raises(InputTypeError, match="dask"):
        fit.ProCoGAN((4, 8, 16), (3, 5, 9), engine="dask").fit(cached)


def test_the_cache_is_found_again_and_follows_the_contents(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = build(folder, resolutions=(4, 8), cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr(pyramid, "_fill", lambda *a, **k: pytest.fail("decoded again"))
        again = build(folder, resolutions=(4, 8), cache=cache)
        assert again.folder == first.folder
    Image.new("RGB", (33, 33)).save(folder / "a" / "00.png")
    assert build(folder, resolutions=(4, 8), cache=cache).folder != first.folder
    assert len({path.name for path in cache.iterdir()}) == 2


def test_a_truncated_cache_is_detected_and_made_again(folder, tmp_path):
    cached = build(folder, resolutions=(4, 8), cache=tmp_path / "cache")
    whole = np.array(cached.array(8))
    level = cached.folder / "level-8.npy"
    os.truncate(level, level.stat().st_size - 100)
    with pytest.raises(DataError, match="truncated"):
        Pyramid(cached.folder)
    np.testing.assert_array_equal(build(folder, resolutions=(4, 8), cache=tmp_path / "cache").array(8), whole)
    (cached.folder / "index.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        Pyramid(cached.folder)


def test_corrupt_files_are_named_or_skipped(folder, tmp_path):
    bad = folder / "b" / "03.png"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(DataError, match=r"b/03\.png"):
        build(folder, resolutions=(4, 8), cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    cached = build(folder, resolutions=(4, 8), cache=tmp_path / "cache", skip_bad=True)
    assert cached.shape[0] == 29
    assert cached.skipped == (str(bad),)
    assert (cached.array(8).reshape(29, -1).max(1) > 0).all()
    for path in folder.rglob("*.*"):
        path.write_bytes(b"junk")
    with pytest.raises(DataError, match="no image"):
        build(folder, resolutions=(4, 8), cache=tmp_path / "cache", skip_bad=True)


def test_crops_that_do_not_fit_are_named(folder, tmp_path):
    with pytest.raises(DataError, match="does not fit"):
        build(folder, resolutions=(4, 8), crop=Crop(40, x=16, y=20), cache=tmp_path / "cache")
    cached = build(folder, resolutions=(4, 8), crop=Crop(8, x=16, y=20), cache=tmp_path / "cache")
    paths = sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg", ".pgm"))
    with Image.open(paths[0]) as image:
        expected = np.asarray(image.convert("RGB"))[16:24, 12:20]
    np.testing.assert_array_equal(cached.array(8)[0], expected)
    assert Crop(128, x=89, y=121).box() == (25, 57, 153, 185)


@pytest.mark.slow  # kills decoding processes
def test_a_killed_build_goes_on(folder, tmp_path):
    """The process vanishes after the second chunk; the next build starts with the third."""
    script = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "src")!r})
from saddlegan.workbench.data import pyramid
pyramid.CHUNK = 4
calls = 0
def progress(label, done, total):
    global calls
    calls += 1
    if calls == 2:
        os._exit(9)
if __name__ == "__main__":
    pyramid.build(Path({str(folder)!r}), resolutions=(4, 8), cache=Path({str(tmp_path / "cache")!r}), workers=1,
                  progress=progress)
"""
    path = tmp_path / "killed.py"
    path.write_text(script)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run([sys.executable, str(path)], timeout=120, env=environment).returncode == 9
    (stage,) = (tmp_path / "cache").iterdir()
    assert stage.name.endswith(".partial")
    lines = (stage / "chunks.log").read_text().splitlines()
    assert len(lines) == 2
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyramid, "CHUNK", 4)
        patch.setattr(pyramid, "_open_level", _never_fresh(pyramid._open_level))
        resumed = build(
            folder, resolutions=(4, 8), cache=tmp_path / "cache", progress=lambda label, done, total: seen.append(done)
        )
    assert min(seen) >= 12
    whole = build(folder, resolutions=(4, 8), cache=tmp_path / "other")
    for r in (4, 8):
        np.testing.assert_array_equal(resumed.array(r), whole.array(r))


def _never_fresh(opened):
    def check(path, shape, *, fresh):
        assert not fresh
        return opened(path, shape, fresh=fresh)

    return check


def test_bad_folders(tmp_path):
    with pytest.raises(DataError, match="holds no image"):
        build(tmp_path, resolutions=(4, 8), cache=tmp_path)
    with pytest.raises(InputError, match="ascend"):
        build(tmp_path, resolutions=(8, 4), cache=tmp_path)
    with pytest.raises(DataError, match="not an image cache"):
        Pyramid(tmp_path)
    with pytest.raises(InputError, match="`crop`"):
        Crop(0, x=1, y=1)


@pytest.mark.slow  # starts decoding processes
def test_the_command_line(folder, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["fit", str(folder), "--progressive", "--resolutions", "4,8,16", "--n-components", "3,5,9"]
    assert cli.run([*words, "--cache", str(tmp_path / "cache"), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "report.html")
    page = (out / "report.html").read_text()
    assert "Stage by stage" in page
    assert (out / "explorer.html").is_file()
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {p.name for p in (tmp_path / "cache").iterdir()}
    assert not list((tmp_path / "cache").glob("fit-*"))
    assert cli.run(["report", str(out)]) == 0
    capsys.readouterr()
    assert cli.run(["fit", "digits", "--progressive", "--out", str(tmp_path / "digits")]) == 0
    capsys.readouterr()
    for bad, message in [
        (["fit", "digits", "--resolutions", "4"], "--progressive"),
        (["fit", "digits", "--progressive", "--resolutions", "4,x"], "4,8,16"),
        (["fit", "digits", "--progressive", "--crop", "128"], "128@89,121"),
        (["fit", "digits", "--progressive", "--crop", "8@4,4"], "folders"),
        (["fit", "ring", "--progressive"], "--image-shape"),
    ]:
        assert cli.run([*bad, "--out", str(tmp_path / "no")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
