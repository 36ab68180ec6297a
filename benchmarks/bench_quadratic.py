"""QuadraticWGAN at size, side by side with one Gram product in the same run.

    python benchmarks/bench_quadratic.py            # 50,000 x 3,072 float32, then 500 x 100,000

Prints ratios; absolute times mean nothing on a shared machine. Memory is the process's peak above what it held with the
data loaded.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from sklearn.datasets import load_digits

from saddlegan.fit import QuadraticWGAN


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seconds(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def low_rank(n: int, d: int) -> np.ndarray:
    """Decaying spectrum like that of images, made block by block so that making it does not set the peak."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((64, d), dtype=np.float32) * (1.0 / np.arange(1, 65, dtype=np.float32))[:, None]
    X = np.empty((n, d), dtype=np.float32)
    step = max(1, 2_000_000 // d)
    for start in range(0, n, step):
        rows = min(step, n - start)
        X[start : start + rows] = rng.standard_normal((rows, 64), dtype=np.float32) @ basis
        X[start : start + rows] += 0.05 * rng.standard_normal((rows, d), dtype=np.float32)
    return X


def measure(n: int, d: int, *, gram: bool, repeats: int = 3) -> None:
    X = low_rank(n, d)
    before = peak_bytes()
    model = QuadraticWGAN(n_latent=16)
    fits = [seconds(lambda: model.fit(X))]
    memory = (peak_bytes() - before) / X.nbytes
    total = peak_bytes() / X.nbytes
    line = f"{n} x {d} float32: extra memory {memory:.2f}x, whole process {total:.2f}x the input; {model.solution_}"
    if gram:
        ratios = []
        for _ in range(repeats):
            product = seconds(lambda: X.T @ X)
            fits.append(seconds(lambda: model.fit(X)))
            ratios.append(fits[-1] / product)
        line += f"; time {statistics.median(ratios):.2f}x one X.T @ X ({', '.join(f'{r:.2f}' for r in ratios)})"
    print(line)


def digits() -> None:
    X = load_digits().data
    model = QuadraticWGAN(n_latent=16)
    cold = seconds(lambda: model.fit(X))
    warm = statistics.median(seconds(lambda: model.fit(X)) for _ in range(20))
    print(f"digits 1797 x 64: first fit {1e3 * cold:.1f} ms, then {1e3 * warm:.2f} ms (median of 20)")


PARTS = {
    "digits": digits,
    "wide": lambda: measure(500, 100_000, gram=False),
    "tall": lambda: measure(50_000, 3_072, gram=True),
}


def main() -> None:
    if len(sys.argv) > 1:
        PARTS[sys.argv[1]]()
        return
    for part in PARTS:  # each in a process of its own: a peak of memory never goes down again
        subprocess.run([sys.executable, __file__, part], check=True)


if __name__ == "__main__":
    main()
