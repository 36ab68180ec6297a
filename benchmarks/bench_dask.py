"""ProCoGAN's sums on two Dask workers beside the serial engine, both warm, in one run.

    python benchmarks/bench_dask.py [IMAGES]

A `distributed.LocalCluster` of two processes with a thread each, and the serial engine with one thread and with two;
what comes after the sums, the solving, has the calling process's two threads either way.
Printed are wall seconds, the shortest of three rounds taken in turn, and the ratio to the serial engine on two threads.
The images are bytes, 32 x 32 x 3, whose power falls with the frequency as photographs' does (noise has no leading
components: finding some takes most of the time, and that on no engine): on disk as a memory map, and as a dask.array of
small chunks that lie on the workers.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from saddlegan import fit

ROUNDS = 3
CHUNK = 100  # images: their totals would be 90 times as large as they


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def pictures(n: int, rng: np.random.Generator) -> np.ndarray:
    """Random fields (n, 32, 32, 3) of amplitude 1 / frequency, as bytes."""
    frequency = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32)[None])
    frequency[0, 0] = frequency[0, 1]
    spectrum = np.fft.rfft2(rng.standard_normal((n, 3, 32, 32))) / frequency
    fields = np.fft.irfft2(spectrum, s=(32, 32)).transpose(0, 2, 3, 1)
    return (128 + 50 * fields / fields.std()).clip(0, 255).astype(np.uint8)


def main() -> None:
    import dask.array
    import distributed

    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="saddlegan-dask-") as place:
        path = Path(place) / "x.npy"
        X = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(n, 32, 32, 3))
        for start in range(0, n, 1000):
            X[start : start + 1000] = pictures(min(1000, n - start), rng)
        X.flush()
        X = np.load(path, mmap_mode="r")

        def run(engine: str, images: object, threads: int) -> None:
            torch.set_num_threads(threads)
            fit.ProCoGAN((4, 8, 16, 32), (20, 30, 40, 100), engine=engine).fit(images)

        with (
            distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
            distributed.Client(cluster) as client,
        ):
            chunks = client.persist(dask.array.from_array(np.asarray(X), chunks=(CHUNK, 32, 32, 3)))
            distributed.wait(chunks)
            ways = {
                "serial, 1 thread": lambda: run("serial", X, 1),
                "serial, 2 threads": lambda: run("serial", X, 2),
                "dask, memory map": lambda: run("dask", X, 2),
                f"dask, chunks of {CHUNK}": lambda: run("dask", chunks, 2),
            }
            found: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(ROUNDS + 1):
                for name, way in ways.items():
                    found[name].append(seconds(way))
                    print(f"round {number}, {name}: {found[name][-1]:.2f} s", file=sys.stderr, flush=True)
        best = {name: min(times[1:]) for name, times in found.items()}  # the first round warms
        print(f"{n:,} images of 32 x 32 x 3, stages 4, 8, 16, 32")
        for name, time_ in best.items():
            print(f"{name:20}{time_:8.2f} s{time_ / best['serial, 2 threads']:8.2f}")


if __name__ == "__main__":
    main()
