"""Samples and files by blocks. Oracles: the same in one piece, numpy's own writers, and all rows of the data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from begun import begun
from saddlegan.fit import QuadraticWGAN
from saddlegan.results import as_dict
from saddlegan.workbench.data import sources
from saddlegan.workbench.data.spec import DataSpec
from saddlegan.workbench.report import export
from saddlegan.workbench.report import scene as scenes
from saddlegan.workbench.report.sections.solved import witness
from saddlegan.workbench.runs import certificate, players
from saddlegan.workbench.runs import folder as runs
from saddlegan.workbench.runs.config import LatentSpec, RunConfig
from saddlegan.workbench.runs.players import draw_latents

SPLITS = ([10], [4, 3, 3], [1, 9])
TABLE = DataSpec(source="t.csv", shape=(10, 3), columns=("a", "b, c", "d"), units=((1.0, 2.0), (0.0, 1.0), (5.0, 0.1)))
IMAGES = DataSpec(source="images", shape=(10, 12), image_shape=(2, 2, 3), value_range=(0.0, 1.0))


def blocks_of(rows: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(rows, np.cumsum(sizes)[:-1])


def by_blocks(folder: Path, ending: str, spec: DataSpec) -> list[bytes]:
    rows = np.random.default_rng(0).random(spec.shape).astype(np.float32)
    paths = [
        export.write_blocks(blocks_of(rows, sizes), len(rows), folder / f"{index}{ending}", spec)
        for index, sizes in enumerate(SPLITS)
    ]
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize("spec", [TABLE, IMAGES], ids=["table", "images"])
@pytest.mark.parametrize("ending", [".npy", ".npz", ".csv", ".png"])
def test_a_file_does_not_depend_on_the_blocks(ending: str, spec: DataSpec, tmp_path: Path) -> None:
    whole, *others = by_blocks(tmp_path, ending, spec)
    assert all(other == whole for other in others)


@pytest.mark.parametrize("ending", [".parquet", ".xlsx"])
def test_a_table_does_not_depend_on_the_blocks(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if ending == ".xlsx":
        pytest.importorskip("openpyxl")
    monkeypatch.setattr(export, "GROUP_ELEMENTS", 12)
    read = {".parquet": pd.read_parquet, ".xlsx": pd.read_excel}[ending]
    whole, *others = (read(io.BytesIO(file)) for file in by_blocks(tmp_path, ending, TABLE))
    assert list(whole.columns) == ["a", "b, c", "d"]
    assert len(whole) == 10
    for other in others:
        pd.testing.assert_frame_equal(other, whole)


@pytest.mark.parametrize("spec", [TABLE, IMAGES], ids=["table", "images"])
def test_arrays_are_those_that_numpy_writes(spec: DataSpec, tmp_path: Path) -> None:
    rows = spec.in_own_units(np.random.default_rng(0).random(spec.shape).astype(np.float32))
    rows = rows.reshape(10, *(spec.image_shape or (3,)))
    plain, packed = io.BytesIO(), io.BytesIO()
    np.save(plain, rows)
    np.savez_compressed(packed, X=rows)
    assert by_blocks(tmp_path, ".npy", spec)[1] == plain.getvalue()
    with np.load(io.BytesIO(by_blocks(tmp_path, ".npz", spec)[1])) as archive:
        np.testing.assert_array_equal(archive["X"], rows)
        assert list(archive) == ["X"]


def test_a_broken_block_leaves_no_file(tmp_path: Path) -> None:
    def broken():
        yield np.zeros((4, 3), dtype=np.float32)
        raise runs.RunError("no more")

    (tmp_path / "x.npy").write_bytes(b"old")
    with pytest.raises(runs.RunError, match="no more"):
        export.write_blocks(broken(), 10, tmp_path / "x.npy", TABLE)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
    assert (tmp_path / "x.npy").read_bytes() == b"old"


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    folder = tmp_path_factory.mktemp("solved")
    rows = np.random.default_rng(0).standard_normal((600, 30)) * 0.9 ** np.arange(30)
    np.save(folder / "x.npy", rows)
    data = sources.load(folder / "x.npy")
    model = QuadraticWGAN(16).fit(data.X)
    G, D = model.generator_, model.discriminator_
    config = RunConfig(
        command="fit", model="quadratic", data=data.spec, latent=LatentSpec(size=16),
        generator=players.network_spec(G), discriminator=players.network_spec(D),
    )  # fmt: skip
    run = begun(folder / "run", config, generator=G, discriminator=D)
    certificate.add(run, "solution", as_dict(model.solution_))
    return run


def test_samples_by_blocks_are_those_in_one_piece(solved: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    z = draw_latents(solved.config.latent, 700, torch.Generator().manual_seed(3), torch.float64)
    with torch.no_grad():
        at_once = solved.load_generator()(z).numpy()
    monkeypatch.setattr(runs, "SAMPLE_ROWS", 64)
    pieces = list(solved.sample_blocks(700, 3))
    assert len(pieces) == 10
    np.testing.assert_allclose(np.concatenate(pieces), at_once, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(np.concatenate(pieces), solved.sample(700, 3))


def test_the_witness_is_measured_on_all_rows(solved: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "LOOKED_AT", 100)
    monkeypatch.setattr(scenes, "MEASURED", 100)
    data = sources.load_spec(solved.config.data)
    section = witness(scenes.Scene(solved, data))
    assert section is not None
    found = section.data
    # the first direction that is left out: beta is its variance, and the rows' covariance says which it is
    values, vectors = np.linalg.eigh(np.cov(data.X.T, bias=True))
    assert found["value"] == pytest.approx(values[-17], rel=1e-9)
    assert abs(np.asarray(found["direction"]) @ vectors[:, -17]) == pytest.approx(1.0, abs=1e-9)
