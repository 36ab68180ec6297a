"""Memory and time of each door on a memory map of n x 100 float32, at n and n / 4: peaks, and exponents of growth.

    python benchmarks/bench_memory.py [ROWS] [NAME ...]

Each measurement is a process of its own. Counted is memory that the process alone holds (RssAnon, sampled every
millisecond, above what the imports take): pages of the map itself belong to the file and are the system's to take back.
Time is processor time.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

COLUMNS = 100
WORKER = """
import resource, sys, threading, time
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
name, folder, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
from saddlegan import fit
from saddlegan.workbench import cli
from saddlegan.workbench.report import page
from saddlegan.workbench.report.figures import samples, training  # what plots, so that imports do not count
from saddlegan.workbench.training import loop
data = folder / f"{n}.npy"
X = np.load(data, mmap_mode="r")
run = folder / f"run-{name}-{n}"
def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
def command(*words):
    assert cli.run([str(word) for word in words]) == 0, words
def made():
    if not run.exists():
        command("fit", data, "--n-latent", 8, "--out", run)
if name in ("fit (command)", "report", "train"):
    assert cli.run(["fit", "ring", "--n-samples", "100", "--out", str(folder / f"warm-{name}-{n}")]) == 0
def small():
    return fit.QuadraticWGAN(8).fit(np.array(X[:2000]))
calls = {
    "fit": (lambda: None, lambda _: fit.QuadraticWGAN(8).fit(X)),
    "fit (command)": (lambda: None, lambda _: command("fit", data, "--n-latent", 8, "--out", run)),
    "score": (small, lambda model: model.score(X)),
    "score, linear": (lambda: fit.LinearWGAN().fit(np.array(X[:2000])), lambda model: model.score(X)),
    "discrepancy": (lambda: np.load(data, mmap_mode="r"), lambda Y: fit.discrepancy(X, Y)),
    "sample": (made, lambda _: command("sample", run, "-n", n, "--out", folder / "drawn.npy", "--overwrite")),
    "sample (csv)": (made, lambda _: command("sample", run, "-n", n // 10, "--out", folder / "x.csv", "--overwrite")),
    "report": (made, lambda _: command("report", run)),
    "train": (lambda: None, lambda _: command("train", data, "--steps", 30, "--set", "hidden=16", "--out", run)),
}
prepare, work = calls[name]
prepared = prepare()
before, peak, over = held(), 0.0, False
def watch():
    global peak
    while not over:
        peak = max(peak, held())
        time.sleep(0.001)
thread = threading.Thread(target=watch)
thread.start()
started = time.process_time()
work(prepared)
seconds = time.process_time() - started
over = True
thread.join()
print("RESULT", peak - before, seconds)
"""
NAMES = ("fit", "fit (command)", "score", "score, linear", "discrepancy", "sample", "sample (csv)", "report", "train")


def write_data(folder: Path, n: int) -> None:
    """Rows with a decaying spectrum, written by blocks."""
    rng = np.random.default_rng(0)
    scales = 0.95 ** np.arange(COLUMNS)
    X = np.lib.format.open_memmap(folder / f"{n}.npy", mode="w+", dtype=np.float32, shape=(n, COLUMNS))
    for start in range(0, n, 50_000):
        stop = min(n, start + 50_000)
        X[start:stop] = rng.standard_normal((stop - start, COLUMNS)) * scales
    X.flush()


def measure(name: str, folder: Path, n: int) -> tuple[float, float]:
    """Peak extra memory in MB and processor seconds of one call."""
    command = [sys.executable, "-c", WORKER, name, str(folder), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, megabytes, seconds = next(line for line in done.stdout.splitlines() if line.startswith("RESULT")).split()
    return float(megabytes), float(seconds)


def main() -> None:
    words = sys.argv[1:]
    n = int(words.pop(0)) if words and words[0].isdecimal() else 1_000_000
    with tempfile.TemporaryDirectory(prefix="saddlegan-memory-") as place:
        folder = Path(place)
        for rows in (n // 4, n):
            write_data(folder, rows)
        print(f"{n:,} x {COLUMNS} float32: {n * COLUMNS * 4 / 2**20:,.0f} MB")
        print(
            f"{'':16}{'extra MB':>10}{'a quarter':>11}{'exponent':>10}{'seconds':>10}{'a quarter':>11}{'exponent':>10}"
        )
        for name in words or NAMES:
            small, large = measure(name, folder, n // 4), measure(name, folder, n)
            figures = [
                (b, a, math.log(max(b, 1e-3) / max(a, 1e-3)) / math.log(4)) for a, b in zip(small, large, strict=True)
            ]
            print(
                f"{name:16}" + "".join(f"{b:10.1f}{a:11.1f}{exponent:10.2f}" for b, a, exponent in figures), flush=True
            )


if __name__ == "__main__":
    main()
