"""Oracles: integer sums and LAPACK for moments; the serial engine for the others; a whole run for a killed one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from saddlegan import fit
from saddlegan.errors import InputTypeError
from saddlegan.fit.progressive import _images
from saddlegan.fit.progressive._images import ArrayImages, ImageBlocks
from saddlegan.moments import _engines, _gram
from saddlegan.moments._engines import Dask, Journal, Passes, Serial, Threads
from saddlegan.moments._gram import add_gram, signed_bytes, symmetrised
from saddlegan.moments._lanczos import block_lanczos, random_block
from saddlegan.moments._streaming import GramKernel, StreamedMoment
from test_procogan import pictures

ROOT = Path(__file__).parents[1]


@pytest.mark.slow  # large sums
@pytest.mark.parametrize("d", [7, 1030])
@pytest.mark.parametrize("integers", [True, False])
def test_byte_gram_matrices_are_exact(d, integers, monkeypatch):
    if integers and not _gram.exact_integers():
        pytest.skip("this processor has no exact byte products")
    monkeypatch.setattr(_gram, "integer_products", lambda: integers)
    monkeypatch.setattr(_gram, "INTEGER_ROWS", 2500)
    rng = np.random.default_rng(0)
    X = rng.choice(np.array([0, 1, 127, 128, 255], dtype=np.uint8), (4000, d))
    X[:, 0] = 0  # 4000 times (-128)^2 does not fit into 24 bits
    matrix = torch.zeros(d, d, dtype=torch.float64)
    add_gram(matrix, signed_bytes(torch.from_numpy(X)))
    Y = X.astype(np.float64) - 128
    np.testing.assert_array_equal(symmetrised(matrix).numpy(), Y.T @ Y)


def test_block_lanczos_agrees_with_lapack():
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((200, 200)))[0]
    values = np.concatenate([-3.0 * np.ones(2), 0.97 ** np.arange(198)])
    A = torch.from_numpy(Q @ np.diag(values) @ Q.T)
    tight = {"tolerances": lambda values: torch.full_like(values, 1e-9)}
    found = block_lanczos(lambda V: V @ A, random_block(20, 200, A.device), k=10, **tight)
    np.testing.assert_allclose(found.values.numpy(), np.sort(values)[::-1][:10], atol=1e-12)
    measured = (found.vectors @ A - found.values[:, None] * found.vectors).norm(dim=1)
    assert float(measured.max()) <= 2e-9
    assert found.converged
    magnitude = block_lanczos(lambda V: V @ A, random_block(5, 200, A.device), k=2, by_magnitude=True, **tight)
    np.testing.assert_allclose(magnitude.values.numpy(), [-3, -3], atol=1e-12)
    hurried = block_lanczos(lambda V: V @ A, random_block(12, 200, A.device), k=10, max_passes=2, **tight)
    assert not hurried.converged
    assert float(hurried.residuals.max()) > 1e-9


def test_block_lanczos_on_a_matrix_of_low_rank():
    A = torch.zeros(30, 30, dtype=torch.float64)
    A[0, 0], A[1, 1] = 2.0, 1.0
    found = block_lanczos(
        lambda V: V @ A, random_block(6, 30, A.device), k=4, tolerances=lambda values: torch.full_like(values, 1e-12)
    )
    np.testing.assert_allclose(found.values.numpy(), [2, 1, 0, 0], atol=1e-12)
    torch.testing.assert_close(found.vectors @ found.vectors.T, torch.eye(4, dtype=torch.float64), atol=1e-9, rtol=0)


def blocks(X=None, resolution=16, rows=64):
    images = ArrayImages(pictures() if X is None else X)
    images.block_rows = lambda: rows
    return ImageBlocks(images, resolution)


def streamed(passes, tolerance=1e-6):
    start = random_block(40, 768, torch.device("cpu"))
    shift = torch.full((768,), 100.0, dtype=torch.float64)
    return StreamedMoment(
        blocks(), passes, start=start, shift=shift, dtype=torch.float32, tolerance=tolerance, label="test"
    )


@pytest.mark.slow  # large enough to be streamed
def test_streamed_moments():
    X = pictures().reshape(300, -1).astype(np.float64)
    mean, C = X.mean(0), np.cov(X.T, bias=True)
    passes = Passes(Serial())
    moment = streamed(passes)
    assert passes.count == 1  # mean, trace and the first product
    np.testing.assert_allclose(moment.mean.numpy(), mean, atol=1e-3)
    assert moment.trace() == pytest.approx(np.trace(C), rel=1e-5)
    pairs = moment.eigenpairs(20)
    values = np.linalg.eigvalsh(C)[::-1]
    np.testing.assert_allclose(pairs.values.numpy(), values[:20], rtol=1e-6)
    used = passes.count
    factor = (pairs.values - values[20]).clamp_min(0).sqrt()[:, None] * pairs.vectors
    exact = np.linalg.norm(C - (factor.T @ factor).numpy(), 2)
    assert moment.spectral_distance(factor) == pytest.approx(exact, rel=1e-4)
    assert passes.count == used  # measured on the Lanczos basis
    elsewhere = torch.eye(768, dtype=torch.float64)[:3] * 100
    exact = np.linalg.norm(C - (elsewhere.T @ elsewhere).numpy(), 2)
    assert moment.spectral_distance(elsewhere) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_threads_give_the_serial_answer(dtype, monkeypatch):
    monkeypatch.setattr(_images, "BLOCK_BYTES", 20_000)
    X = pictures(dtype=dtype)
    serial, threads = (
        fit.ProCoGAN((4, 8, 16), (6, 12, 30), engine=engine).fit(X) for engine in ("serial", Threads(workers=3))
    )
    rtol = 0.0 if dtype == "uint8" else 1e-9  # sums of bytes are exact in any order
    np.testing.assert_allclose(threads.eigenvalues_, serial.eigenvalues_, rtol=rtol)
    np.testing.assert_allclose(threads.components_, serial.components_, atol=1e3 * rtol)


def test_small_dask_chunks_are_summed_together():
    chunks, rows = list("abcdefg"), [3, 3, 3, 9, 1, 1, 1]
    assert _engines._grouped(chunks, rows, 5) == [["a", "b"], ["c", "d", "e", "f", "g"]]  # three rows more are no task
    assert _engines._grouped(chunks, rows, 1) == [[chunk] for chunk in chunks]
    assert _engines._grouped(["a"], [2], 100) == [["a"]]


@pytest.mark.parametrize("kind", ["array", "map", "slice of a map"])
def test_dask_gives_the_serial_answer(kind, tmp_path, monkeypatch):
    dask = pytest.importorskip("dask")
    array = pytest.importorskip("dask.array")
    monkeypatch.setattr(_images, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(_engines, "TASK_ROWS", 30)
    monkeypatch.setattr(_engines, "WORTH", 0)
    X = pictures()
    np.save(tmp_path / "x.npy", np.concatenate([255 - X[:3], X]))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = {"array": array.from_array(X, chunks=(7, 8, 16, 3)), "map": mapped, "slice of a map": mapped[3:]}[kind]
    kernel = GramKernel(torch.zeros(192, dtype=torch.float64), torch.uint8, "test")
    with dask.config.set(scheduler="synchronous"):
        found = Dask().sum(ImageBlocks(ArrayImages(rows), 8), kernel, 2, 290)
    expected = Serial().sum(ImageBlocks(ArrayImages(mapped if kind == "map" else X), 8), kernel, 2, 290)
    for total, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(total.numpy(), other.numpy())


def test_dask_refuses_rows_that_workers_cannot_reach(tmp_path):
    pytest.importorskip("dask")
    np.save(tmp_path / "x.npy", pictures())
    changed = np.load(tmp_path / "x.npy", mmap_mode="c")
    for rows in (pictures(), changed, np.load(tmp_path / "x.npy", mmap_mode="r")[::2]):
        with pytest.raises(InputTypeError, match="every worker can open"):
            ImageBlocks(ArrayImages(rows), 8).delayed(0, 9)


SCRIPT = """
import numpy as np, torch, sys
sys.path[:0] = [{src!r}, {tests!r}]
torch.set_num_threads(1)
from saddlegan import fit
from saddlegan.fit.progressive import _images
from saddlegan.fit.progressive import _stages
from test_procogan import pictures
from saddlegan.moments import _engines
_engines.TASK_ROWS, _engines.WORTH = 60, 0  # several tasks of several chunks
_images.BLOCK_BYTES = 20_000
_stages.GRAM_SIZE, _stages.WIDE_ROWS = 200, 8
model = fit.ProCoGAN((4, 8, 16), (6, 12, 30), tolerance=1e-7{options})
"""


def run_script(body, options="", command=(sys.executable,), **environment):
    script = SCRIPT.format(src=str(ROOT / "src"), tests=str(ROOT / "tests"), options=options) + body
    return subprocess.run(
        [*command, "-c", script] if command == (sys.executable,) else [*command],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def reference(monkeypatch):
    from saddlegan.fit.progressive import _stages

    monkeypatch.setattr(_images, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(_stages, "GRAM_SIZE", 200)
    monkeypatch.setattr(_stages, "WIDE_ROWS", 8)
    return fit.ProCoGAN((4, 8, 16), (6, 12, 30), tolerance=1e-7).fit(pictures())


def assert_same(path, model, atol=1e-6):
    saved = np.load(path)
    np.testing.assert_allclose(saved["values"], model.eigenvalues_, rtol=1e-6)
    np.testing.assert_allclose(saved["mean"], model.mean_, rtol=1e-6)
    expected = model.stages_[-1].factor.numpy()
    np.testing.assert_allclose(saved["factor"], expected, atol=atol * np.abs(expected).max())


SAVE = """
    np.savez({out!r}, values=model.eigenvalues_, mean=model.mean_, factor=model.stages_[-1].factor.numpy())
"""


@pytest.mark.slow  # starts two processes
def test_two_torchrun_processes_give_the_serial_answer(tmp_path, monkeypatch):
    out = tmp_path / "ranks.npz"
    body = """
torch.distributed.init_process_group("gloo")
model.fit(pictures())
if torch.distributed.get_rank() == 1:
"""
    script = tmp_path / "ranks.py"
    text = SCRIPT.format(src=str(ROOT / "src"), tests=str(ROOT / "tests"), options=', engine="distributed"')
    # the engine is looked up in `fit`, after the process group is there
    script.write_text(text + body + SAVE.format(out=str(out)) + "torch.distributed.destroy_process_group()\n")
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script))
    done = run_script("", command=command)
    assert done.returncode == 0, done.stderr
    assert_same(out, reference(monkeypatch))


@pytest.mark.slow  # starts a cluster
def test_two_dask_workers_give_the_serial_answer(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    np.save(tmp_path / "x.npy", np.concatenate([pictures()[:1], pictures()]))
    body = f"""
import dask.array, distributed
from saddlegan.workbench import cli
if __name__ == "__main__":
    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        with distributed.Client(cluster):
            model.fit(dask.array.from_array(pictures(), chunks=(7, 8, 16, 3)))
            {SAVE.format(out=str(tmp_path / "array.npz")).strip()}
            model.fit(np.load({str(tmp_path / "x.npy")!r}, mmap_mode="r")[1:])
            {SAVE.format(out=str(tmp_path / "map.npz")).strip()}
        words = ["fit", {str(tmp_path / "x.npy")!r}, "--progressive", "--resolutions", "4,8", "--n-components", "6,12"]
        for name, more in (("serial", []), ("dask", ["--engine", "dask", "--scheduler", cluster.scheduler_address])):
            cache = ["--cache", {str(tmp_path)!r} + "/cache-" + name]
            assert cli.run([*words, *more, *cache, "--out", {str(tmp_path)!r} + "/" + name]) == 0
    from saddlegan.workbench.commands import _progressive_fit
    _progressive_fit.PATIENCE = 0.5
    assert cli.run([*words, *more[:3], "tcp://127.0.0.1:1", "--out", {str(tmp_path)!r} + "/none"]) != 0
"""
    script = tmp_path / "workers.py"
    script.write_text(SCRIPT.format(src=str(ROOT / "src"), tests=str(ROOT / "tests"), options=', engine="dask"') + body)
    done = run_script("", command=(sys.executable, str(script)), PYTHONPATH=f"{ROOT / 'src'}:{ROOT / 'tests'}")
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "array.npz", reference(monkeypatch))
    assert_same(tmp_path / "map.npz", reference(monkeypatch))
    assert "nobody answers" in done.stderr
    assert not (tmp_path / "none").exists()
    by_engine = [json.loads((tmp_path / name / "certificate.json").read_text()) for name in ("serial", "dask")]
    np.testing.assert_allclose(by_engine[0]["spectrum"], by_engine[1]["spectrum"], rtol=1e-12)


@pytest.mark.parametrize("legs", [5, 37])
@pytest.mark.slow  # kills processes
def test_a_killed_fit_goes_on_with_the_same_bits(tmp_path, legs, monkeypatch):
    """The process ends without any clean-up in the middle of a pass; the second call must not start again."""
    sums = tmp_path / "sums"
    body = f"""
import os
from saddlegan.moments import _engines
_engines.SAVE_SECONDS = 0.0
count = 0
def progress(label, done, total):
    global count
    count += 1
    if count == {legs}:
        os._exit(9)
model.set_params(progress=progress, checkpoint={str(sums)!r})
if __name__ == "__main__":
    model.fit(pictures())
"""
    assert run_script(body).returncode == 9
    left = sorted(path.name for path in sums.iterdir())
    assert left[0] == "pass-0000.safetensors"
    seen = []
    model = reference(monkeypatch)
    again = fit.ProCoGAN(
        (4, 8, 16), (6, 12, 30), tolerance=1e-7, checkpoint=sums, progress=lambda *call: seen.append(call)
    ).fit(pictures())
    whole = []
    fit.ProCoGAN(
        (4, 8, 16),
        (6, 12, 30),
        tolerance=1e-7,
        checkpoint=tmp_path / "other",
        progress=lambda *call: whole.append(call),
    ).fit(pictures())
    assert len(seen) == len(whole) - legs
    np.testing.assert_array_equal(again.components_, model.components_)
    assert not sums.exists()


def test_a_truncated_or_foreign_journal_is_not_believed(tmp_path):
    journal = Journal(tmp_path)
    path, rows, totals = journal.next("a")
    assert (rows, totals) == (0, None)
    journal.save(path, "a", 10, (torch.ones(3), torch.zeros(2, 2)))
    _, rows, totals = Journal(tmp_path).next("a")
    assert rows == 10
    assert totals is not None
    torch.testing.assert_close(totals[0], torch.ones(3))
    assert Journal(tmp_path).next("b")[1:] == (0, None)
    path.write_bytes(path.read_bytes()[:-5])
    assert Journal(tmp_path).next("a")[1:] == (0, None)
