"""QuadraticWGAN at size, side by side with one Gram product in the same run.

    python benchmarks/bench_quadratic.py            # 10,000 x 784 beside PCA, 50,000 x 3,072 float32, 500 x 100,000

Prints ratios; absolute times mean nothing on a shared machine. Memory is the process's peak above what it held with the
data loaded.
"""

from __future__ import annotations

import functools
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

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
    X = load_digits(return_X_y=True)[0]
    model = QuadraticWGAN(n_latent=16)
    cold = seconds(lambda: model.fit(X))
    warm = statistics.median(seconds(lambda: model.fit(X)) for _ in range(20))
    print(f"digits 1797 x 64: first fit {1e3 * cold:.1f} ms, then {1e3 * warm:.2f} ms (median of 20)")


def against_pca() -> None:
    """Proof included, against the fastest of scikit-learn's PCA solvers on the same data, side by side."""
    for kind in ("uint8", "float32", "float64"):
        X = low_rank(10_000, 784)
        X = np.clip(128 + 40 * X, 0, 255).astype(np.uint8) if kind == "uint8" else X.astype(kind)
        model = QuadraticWGAN(n_latent=16)
        solvers = {
            name: PCA(16, svd_solver=name, random_state=0) for name in ("covariance_eigh", "randomized", "arpack")
        }
        for each in (model, *solvers.values()):
            each.fit(X)  # what is imported or set up once is not compared
        ratios, names = [], []
        for _ in range(5):
            own = seconds(functools.partial(model.fit, X))
            theirs = {name: seconds(functools.partial(each.fit, X)) for name, each in solvers.items()}
            names.append(min(theirs, key=theirs.__getitem__))
            ratios.append(own / theirs[names[-1]])
        print(
            f"10000 x 784 {kind}: {statistics.median(ratios):.2f}x the best PCA ({', '.join(sorted(set(names)))}; "
            f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}); gap {model.solution_.gap:.1e}, constraint "
            f"{model.solution_.stats['primal_residual']:.1e}"
        )


PARTS = {
    "pca": against_pca,
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
