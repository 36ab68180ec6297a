"""Oracles: Pillow read by hand, block means by numpy; a whole build for a killed one."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saddlegan import fit
from saddlegan.errors import DataError, InputError
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


@pytest.mark.slow  # decodes many times
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


@pytest.mark.slow  # decodes many times
def test_fits_from_the_cache_equal_fits_from_the_array(folder, tmp_path, monkeypatch):
    cached = build(folder, resolutions=(4, 8, 16), cache=tmp_path / "cache")
    a, b = (fit.ProCoGAN((4, 8, 16), (3, 5, 9)).fit(X) for X in (cached, np.array(cached.array(16))))
    np.testing.assert_array_equal(a.components_, b.components_)
    monkeypatch.setattr(_stages, "WIDE_ROWS", 8)
    dask = pytest.importorskip("dask")
    with dask.config.set(scheduler="synchronous"):
        c = fit.ProCoGAN((4, 8, 16), (3, 5, 9), engine="dask").fit(cached)  # its maps are opened where they are read
    np.testing.assert_allclose(c.eigenvalues_, a.eigenvalues_, rtol=1e-9)


@pytest.mark.slow  # decodes many times
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


@pytest.mark.slow  # decodes many times
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


@pytest.mark.slow  # decodes many times
def test_flipped_bytes_in_a_cache_are_noticed_and_decoded_again(folder, tmp_path):
    cache = tmp_path / "cache"
    cached = build(folder, resolutions=(4, 8), cache=cache)
    whole = {r: np.array(cached.array(r)) for r in (4, 8)}
    for level in ("level-4.npy", "level-8.npy"):
        content = bytearray((cached.folder / level).read_bytes())
        content[-7] ^= 1
        content[-900] ^= 128
        (cached.folder / level).write_bytes(content)
        with pytest.raises(DataError, match=rf"{level} is damaged"):
            Pyramid(cached.folder).verify()
        again = build(folder, resolutions=(4, 8), cache=cache)
        assert [note for note in again.notes if "decoded again" in note]
        for r in (4, 8):
            np.testing.assert_array_equal(again.array(r), whole[r])
        assert not build(folder, resolutions=(4, 8), cache=cache).notes  # said once


@pytest.mark.slow  # decodes many times
@pytest.mark.parametrize(
    "damage",
    [
        b'{"n": "many"}',
        b"[]",
        b'{"n": 30, "channels": 3, "resolutions": [4, 8], "skipped": [], "notes": [], "chunk": 256, "sums": []}',
        b'{"n": 1e99, "channels": {}, "resolutions": 4}',
        b"\xff" * 40,
    ],
)
def test_any_damage_of_an_index_is_decoded_again(folder, tmp_path, damage):
    cached = build(folder, resolutions=(4, 8), cache=tmp_path / "cache")
    whole = np.array(cached.array(8))
    (cached.folder / "index.json").write_bytes(damage)
    np.testing.assert_array_equal(build(folder, resolutions=(4, 8), cache=tmp_path / "cache").array(8), whole)


@pytest.mark.slow  # decodes many times
def test_a_log_is_believed_only_as_far_as_the_bytes_are_there(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid, "CHUNK", 4)
    whole = build(folder, resolutions=(4, 8), cache=tmp_path / "other")
    seen = []

    def stop(label, done, total):
        seen.append(done)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(folder, resolutions=(4, 8), cache=tmp_path / "cache", progress=stop)
    (stage,) = (tmp_path / "cache").glob("*.partial")
    (stage / "level-8.npy").unlink()
    lies = ['{"chunk": 2, "bad": [], "sums": [1, 2]}', '{"chunk": "x"}', "[]", '{"chunk": 400, "bad": [], "sums": []}']
    with (stage / "chunks.log").open("a") as log:
        log.write("".join(f"{line}\n" for line in lies))
    again = build(folder, resolutions=(4, 8), cache=tmp_path / "cache")
    assert "6 chunks" in again.notes[-1]
    for r in (4, 8):
        np.testing.assert_array_equal(again.array(r), whole.array(r))


@pytest.mark.slow  # decodes many times
def test_two_builds_in_one_cache_take_turns(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid, "CHUNK", 4)
    said, made = [], {}

    def run(name):
        def progress(label, done, total):
            said.append((name, label.split()[0]))

        made[name] = build(folder, resolutions=(4, 8), cache=tmp_path / "cache", workers=1, progress=progress)

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    decoders = {name for name, word in said if word == "decoding"}
    waiters = {name for name, word in said if word == "waiting"}
    assert len(decoders) == 1
    assert waiters <= {"a", "b"} - decoders
    assert made["a"].folder == made["b"].folder
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [made["a"].folder.name]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow  # decodes many times
def test_a_full_disk_is_one_line_and_gives_its_space_back(folder, small_disk):
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); make room") as caught:
        build(folder, resolutions=(16, 64, 128), cache=small_disk)
    assert "\n" not in str(caught.value)
    assert list(small_disk.iterdir()) == []
    assert build(folder, resolutions=(4, 8), cache=small_disk).shape == (30, 8, 8, 3)


@pytest.mark.slow  # decodes many times
def test_a_disk_that_fills_while_decoding_keeps_what_is_in(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid, "CHUNK", 4)
    real = pyramid._Entry.model_dump_json
    written = []

    def full(self, **options):
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(self.chunk)
        return real(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pyramid._Entry, "model_dump_json", full)
        with pytest.raises(DataError, match="No space left"):
            build(folder, resolutions=(4, 8), cache=tmp_path / "cache")
    seen = []
    build(folder, resolutions=(4, 8), cache=tmp_path / "cache", progress=lambda label, done, total: seen.append(done))
    assert min(seen) > 12


@pytest.mark.slow  # starts and kills decoding processes
def test_no_decoding_process_outlives_a_killed_build(folder, tmp_path):
    script = f"""
import os, signal, sys
from pathlib import Path
from saddlegan.workbench.data import pyramid
pyramid.CHUNK = 4
if __name__ == "__main__":
    pyramid.build(Path({str(folder)!r}), resolutions=(4, 8), cache=Path({str(tmp_path / "cache")!r}),
                  progress=lambda *a: os.kill(os.getpid(), signal.SIGKILL))
"""
    path = tmp_path / "killed.py"
    path.write_text(script)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    # the pipe is at its end only when every process that inherited it is gone
    done = subprocess.run([sys.executable, str(path)], timeout=60, env=environment, capture_output=True)
    assert done.returncode == -9


@pytest.mark.slow  # decodes many times
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


@pytest.mark.slow  # decodes many times
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
    (stage,) = (tmp_path / "cache").glob("*.partial")  # beside the lock of the dead process, which nobody holds
    lines = (stage / "chunks.log").read_text().splitlines()
    assert len(lines) == 2
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyramid, "CHUNK", 4)
        patch.setattr(pyramid, "_new_level", lambda *a: pytest.fail("began anew"))
        resumed = build(
            folder, resolutions=(4, 8), cache=tmp_path / "cache", progress=lambda label, done, total: seen.append(done)
        )
    assert min(seen) >= 12
    whole = build(folder, resolutions=(4, 8), cache=tmp_path / "other")
    for r in (4, 8):
        np.testing.assert_array_equal(resumed.array(r), whole.array(r))


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
        (["fit", "digits", "--resolutions", "4"], "--model progressive"),
        (["fit", "digits", "--progressive", "--resolutions", "4,x"], "whole number"),
        (["fit", "digits", "--progressive", "--crop", "128"], "128@89,121"),
        (["fit", "digits", "--progressive", "--crop", "8@4,4"], "folders"),
        (["fit", "ring", "--progressive"], "--image-shape"),
    ]:
        assert cli.run([*bad, "--out", str(tmp_path / "no")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
