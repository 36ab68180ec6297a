"""Runs whose JSON or weights were altered: every command works or says one line, and none ends in a traceback."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import resource
import shutil
import sys
import warnings
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from saddlegan.errors import RunError
from saddlegan.workbench import cli
from saddlegan.workbench.data.images import FORMATS
from saddlegan.workbench.runs import reading

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
FILES = ("config.json", "certificate.json", "metrics.jsonl", "report.json")
KINDS = ("quadratic", "pictures", "judged", "train", "progressive")
COMMANDS: dict[str, tuple[str, ...]] = {
    "sample": ("sample", "RUN", "-n", "5", "--out", "OUT.csv", "--overwrite"),
    "report": ("report", "RUN"),
    "explore": ("explore", "RUN", "--out", "OUT.html"),
    "compare": ("compare", "RUN", "OTHER", "--out", "OUT.png"),
    "measure": ("measure", "RUN", "-n", "40"),
    "resume": ("train", "--resume", "RUN"),
}
SLOWER: dict[str, tuple[str, ...]] = {
    "certify": ("certify", "RUN", "--steps", "2"),
    "diagnose": ("diagnose", "RUN"),
}
GIGABYTE = 1 << 30
DELETED = object()


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


VALUES = (
    *(None, "x", "nan", -1, 0, 10**12, 1e12, 10**400, float("nan"), True),
    *([], {}, [1, "a"], {"a": 1}, nested(100), DELETED),
)


def run_of(*words: str | Path) -> tuple[int, str]:
    """Exit code and what was said on standard error; a bug's traceback is the test's."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()), within_a_gigabyte():
        return cli.run([str(word) for word in words]), said.getvalue()


@contextlib.contextmanager
def within_a_gigabyte() -> Iterator[None]:
    """Let this process map no more than a gigabyte beyond what it has; more is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + GIGABYTE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    fits = ("fit", "ring", "--n-samples", "100", "--n-latent", "2")
    stages = ("--progressive", "--resolutions", "4,8", "--n-components", "3,4")
    train = ("--n-samples", "100", "--steps", "4", "--hidden", "8", "--batch", "16")
    for name, words in {
        "quadratic": fits,
        "pictures": ("fit", "digits", "--n-latent", "3"),
        "judged": fits,
        "train": ("train", "ring", *train),
        "progressive": ("fit", folder / "images.npy", *stages),
    }.items():
        assert run_of(*words, "--out", folder / name)[0] == 0
    assert run_of("certify", folder / "judged", "--steps", "2")[0] == 0
    return folder


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of a document's entries; of long lists the first two."""
    yield at
    entries = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from places(entry, (*at, key))


def altered(document: Any, at: tuple[Any, ...], value: Any) -> Any:
    if not at:
        return None if value is DELETED else value
    changed = copy.deepcopy(document)
    parent = changed
    for key in at[:-1]:
        parent = parent[key]
    if value is DELETED:
        del parent[at[-1]]
    else:
        parent[at[-1]] = value
    return changed


def check(runs: Path, work: Path, kind: str, command: str, name: str, content: bytes) -> tuple[int, str]:
    """Run a command on a copy of a run with one file replaced."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(runs / kind, work / "run")
    (work / "run" / name).write_bytes(content)
    others = {"RUN": work / "run", "OTHER": runs / "quadratic"}
    words = [others.get(word, word.replace("OUT", str(work / "out"))) for word in (COMMANDS | SLOWER)[command]]
    return judged(*words)


def judged(*words: str | Path) -> tuple[int, str]:
    """Run a command that must work or say one line, and must not ask for a gigabyte."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, said = run_of(*words)
    assert code in (0, 2), said
    if code == 2:
        assert said.strip()
        assert said.count("\n") == 1, said
    assert "allocate" not in said
    assert "not enough memory" not in said
    return code, said


def alterations(data: st.DataObject, runs: Path, work: Path, commands: Collection[str] = tuple(COMMANDS)) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    name = data.draw(st.sampled_from([name for name in FILES if (runs / kind / name).exists()]))
    command = "compare" if name == "report.json" else data.draw(st.sampled_from(sorted(commands)))
    lines = (runs / kind / name).read_text().splitlines()
    if name != "metrics.jsonl":
        lines = ["\n".join(lines)]
    line = data.draw(st.integers(0, len(lines) - 1))
    document = json.loads(lines[line])
    value = data.draw(st.sampled_from(VALUES))
    lines[line] = json.dumps(altered(document, data.draw(st.sampled_from(list(places(document)))), value))
    check(runs, work, kind, command, name, ("\n".join(lines) + "\n").encode())


# the same cases every time: a check must not fail by luck; other seeds and numbers are for whoever hunts faults
MANNERS: dict[str, Any] = {
    "derandomize": True,
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


@pytest.mark.slow  # many runs are opened
@settings(max_examples=30, **MANNERS)
@given(data=st.data())
def test_altered_json_is_used_or_named(data: st.DataObject, runs: Path, tmp_path: Path) -> None:
    alterations(data, runs, tmp_path / "work", (*COMMANDS, *SLOWER))


@pytest.mark.parametrize(
    ("kind", "command", "name", "at", "value"),
    [
        ("pictures", "explore", "certificate.json", ("solution", "stats", "total_moment"), {"a": 1}),
        ("pictures", "explore", "certificate.json", ("spectrum",), 1e12),
        ("quadratic", "report", "certificate.json", ("solution", "stats", "solve_seconds"), None),
        ("quadratic", "report", "certificate.json", ("solution", "stats", "kept"), 1e12),
        ("progressive", "report", "certificate.json", ("stages", 0, "total"), 10**400),
        ("progressive", "report", "certificate.json", ("stages",), DELETED),
        ("progressive", "explore", "certificate.json", ("stages", 0, "spectrum"), True),
        ("quadratic", "compare", "report.json", ("sections",), 3),
        ("quadratic", "sample", "config.json", ("generator", "options", "n_latent"), 10**12),
        ("quadratic", "sample", "config.json", ("latent", "size"), 10**12),
        ("quadratic", "sample", "config.json", ("sample_scale",), float("nan")),
        ("quadratic", "sample", "config.json", ("data", "shape"), [0, 2]),
        ("quadratic", "sample", "config.json", ("options", "beta"), nested(100)),
    ],
)
def test_faults_that_once_gave_a_traceback(
    kind: str, command: str, name: str, at: tuple[Any, ...], value: Any, runs: Path, tmp_path: Path
) -> None:
    content = json.dumps(altered(json.loads((runs / kind / name).read_text()), at, value)).encode()
    code, said = check(runs, tmp_path / "work", kind, command, name, content)
    assert code == 2
    assert "run" in said
    assert "sound copy" in said or "weights" in said or "damaged" in said


@pytest.mark.parametrize("value", [{}, "x", None, True, [[1]]])
def test_metrics_of_other_types_are_named_with_their_line(value: Any, runs: Path, tmp_path: Path) -> None:
    lines = (runs / "train" / "metrics.jsonl").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"spread": value})
    code, said = check(runs, tmp_path / "work", "train", "report", "metrics.jsonl", "\n".join([*lines, ""]).encode())
    assert (code, "metrics.jsonl, line 2 is damaged: spread" in " ".join(said.split())) == (2, True)


def damaged(data: st.DataObject, content: bytes) -> bytes:
    """One bit flipped, mostly among the first bytes, where the heads are; or the end cut off."""
    changed = bytearray(content)
    place = data.draw(st.one_of(st.integers(0, min(len(content), 300) - 1), st.integers(0, len(content) - 1)))
    if data.draw(st.integers(0, 3)) == 0:
        del changed[place:]
    else:
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
    return bytes(changed)


WEIGHTS = (
    *(("quadratic", "generator.safetensors", command) for command in ("sample", "report", "measure")),
    *(("quadratic", "discriminator.safetensors", command) for command in ("report", "resume")),
    *(("progressive", "stages.safetensors", command) for command in ("explore", "report")),
    *(("train", "progress.safetensors", command) for command in ("report", "resume")),
    ("train", "checkpoint/step-000000004.ckpt", "resume"),
)


def weights(data: st.DataObject, runs: Path, work: Path) -> None:
    kind, name, command = data.draw(st.sampled_from(WEIGHTS))
    check(runs, work, kind, command, name, damaged(data, (runs / kind / name).read_bytes()))


@pytest.mark.slow  # many runs are opened
@settings(max_examples=30, **MANNERS)
@given(data=st.data())
def test_altered_weights_are_used_or_named(data: st.DataObject, runs: Path, tmp_path: Path) -> None:
    weights(data, runs, tmp_path / "work")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    X = np.random.default_rng(0).standard_normal((20, 3))
    np.savez(folder / "plain.npz", X=X)
    np.savez_compressed(folder / "packed.npz", X=X, y=np.arange(20))
    np.save(folder / "x.npy", X)
    pd.DataFrame(X, columns=list("abc")).to_parquet(folder / "x.parquet")
    pd.DataFrame(X, columns=list("abc")).to_csv(folder / "x.csv", index=False)
    return folder


def files(data: st.DataObject, tables: Path, work: Path) -> None:
    path = data.draw(st.sampled_from(sorted(tables.iterdir())))
    work.mkdir(exist_ok=True)
    target = work / path.name
    target.write_bytes(damaged(data, path.read_bytes()))
    judged("data", target)


@settings(max_examples=100, **MANNERS)
@given(data=st.data())
def test_altered_data_files_are_used_or_named(data: st.DataObject, tables: Path, tmp_path: Path) -> None:
    files(data, tables, tmp_path / "work")


@pytest.mark.slow  # hundreds of files are opened
@settings(max_examples=300, **MANNERS)
@given(data=st.data())
def test_altered_data_files_are_used_or_named_at_length(data: st.DataObject, tables: Path, tmp_path: Path) -> None:
    files(data, tables, tmp_path / "work")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    endings = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "TIFF": "tif", "WEBP": "webp", "AVIF": "avif", "PPM": "ppm"}
    for ending in (ending for name, ending in endings.items() if name in FORMATS and name in Image.SAVE):
        Image.fromarray(pixels).save(folder / f"x.{ending}", **({"exif": exif} if ending == "jpg" else {}))
    Image.fromarray(pixels[..., 0].astype(np.uint16) << 4).save(folder / "deep.png")
    return folder


@pytest.mark.slow  # a hundred pictures are opened
@settings(max_examples=100, **MANNERS)
@given(data=st.data())
def test_altered_pictures_are_used_or_named(data: st.DataObject, pictures: Path, tmp_path: Path) -> None:
    path = data.draw(st.sampled_from(sorted(pictures.iterdir())))
    (tmp_path / f"a{path.suffix}").write_bytes(path.read_bytes())
    (tmp_path / f"b{path.suffix}").write_bytes(damaged(data, path.read_bytes()))
    try:
        judged("data", tmp_path)
    finally:
        for each in tmp_path.iterdir():
            each.unlink()


@pytest.mark.skipif("AVIF" not in FORMATS, reason="this Pillow reads no AVIF")
@pytest.mark.parametrize("box", [b"av01", b"iloc", b"pitm"])
def test_a_picture_whose_boxes_are_gone_is_named(box: bytes, pictures: Path, tmp_path: Path) -> None:
    """libavif's faults reach Pillow's callers as RuntimeError."""
    (tmp_path / "b.avif").write_bytes((pictures / "x.avif").read_bytes().replace(box, b"xxxx"))
    code, said = judged("data", tmp_path)
    assert (code, "b.avif cannot be read" in said) == (2, True), said


@pytest.mark.parametrize("packed", [False, True])
def test_an_array_that_promises_more_than_its_file_holds_is_not_allocated(packed: bool, tmp_path: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 4)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("X.npy", head.getvalue() + bytes(800))
    code, said = judged("data", tmp_path / "x.npz")
    assert (code, "damaged" in said) == (2, True), said


def test_more_than_the_machine_has_is_one_line(tmp_path: Path) -> None:
    code, said = run_of("fit", "ring", "--n-samples", str(10**12), "--out", tmp_path / "r")
    assert (code, said.count("\n"), "not enough memory" in said) == (2, 1, True), said


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mlp", {"n_in": 2, "n_out": 2, "hidden": [60_000, 60_000], "activation": "relu"}),
        ("linear", {"n_latent": 90_000, "n_features": 90_000}),
        ("polynomial-features", {"n_latent": 4000, "degree": 4000}),
        ("points", {"m": 10**6, "d": 10**6}),
    ],
)
def test_networks_beyond_their_weights_are_not_allocated(
    kind: str, options: dict[str, Any], runs: Path, tmp_path: Path
) -> None:
    config = json.loads((runs / "quadratic" / "config.json").read_text())
    config["generator"] = {"kind": kind, "options": options}
    code, said = check(runs, tmp_path / "work", "quadratic", "sample", "config.json", json.dumps(config).encode())
    assert (code, "sound copy" in said) == (2, True), said


def test_only_json_as_the_library_writes_it_is_parsed() -> None:
    assert reading.parse_json(b'{"a": [1, 2.5, "nan"]}', "f") == {"a": [1, 2.5, "nan"]}
    for content in (b"{", b"NaN", b"-Infinity", b"1" * 30, b"[" * 100_000, json.dumps(nested(100)).encode(), b"\xff"):
        with pytest.raises(RunError, match=r"^f is damaged: .*sound copy"):
            reading.parse_json(content, "f")
