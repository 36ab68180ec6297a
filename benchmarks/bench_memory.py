"""Memory and time of each door and command on a memory map of n x 100 float32, at n and n / 4: peaks, and their growth.

    python benchmarks/bench_memory.py [ROWS] [NAME ...]

Each measurement is a process of its own that has done the same on 200 rows before, so that imports do not count.
"extra" is what the process alone holds above that (RssAnon + RssShmem, sampled every millisecond); "resident" adds the
pages of the map that lie in memory, which belong to the file and are the system's to take back. An exponent of 0 means
that the size of the data does not matter, 1 that memory or processor time grow as they do.
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
data, few = folder / f"{n}.npy", folder / f"few-{name}-{n}.npy"
X = np.load(data, mmap_mode="r")
np.save(few, X[:200])
run = folder / f"run-{name}-{n}"
def held():
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    mb = {word: int(fields[word].split()[0]) / 1024 for word in ("RssAnon", "RssShmem", "VmRSS")}
    return mb["RssAnon"] + mb["RssShmem"], mb["VmRSS"]
def command(*words):
    assert cli.run([str(word) for word in words]) == 0, words
def solved(source):
    command("fit", source, "--n-latent", 8, "--out", run, "--overwrite")
calls = {
    "fit": lambda X, source, rows: fit.QuadraticWGAN(8).fit(X),
    "fit (command)": lambda X, source, rows: solved(source),
    "score": lambda X, source, rows: fit.QuadraticWGAN(8).fit(np.array(X[:2000])).score(X),
    "score, linear": lambda X, source, rows: fit.LinearWGAN().fit(np.array(X[:2000])).score(X),
    "discrepancy": lambda X, source, rows: fit.discrepancy(X, np.load(source, mmap_mode="r")),
    "report": lambda X, source, rows: command("report", run),
    "train": lambda X, source, rows: command(
        "train", source, "--steps", 30, "--set", "hidden=16", "--out", run, "--overwrite"
    ),
}
for ending in ("npy", "csv", "parquet", "npz"):
    calls[f"sample ({ending})"] = lambda X, source, rows, ending=ending: command(
        "sample", run, "-n", rows, "--out", folder / f"drawn.{ending}", "--overwrite"
    )
if name == "report" or name.startswith("sample"):
    solved(few if name != "report" else data)
if name != "report":
    calls[name](np.load(few, mmap_mode="r"), few, 200)
elif not (folder / "warm").exists():
    command("fit", few, "--n-latent", 8, "--out", folder / "warm")
rows = n // 10 if "csv" in name else n
before, peak, over = held(), (0.0, 0.0), False
def watch():
    global peak
    while not over:
        peak = tuple(map(max, peak, held()))
        time.sleep(0.001)
thread = threading.Thread(target=watch)
thread.start()
started = time.process_time()
calls[name](X, data, rows)
seconds = time.process_time() - started
over = True
thread.join()
print("RESULT", peak[0] - before[0], peak[1] - before[1], seconds)
"""
NAMES = (
    *("fit", "fit (command)", "score", "score, linear", "discrepancy", "report", "train"),
    *(
        "sample (npy)",
        "sample (npz)",
        "sample (parquet)",
        "sample (csv)",
    ),  # of .csv, which is slow, a tenth of the rows
)
LEAST = 10.0  # MB: growth of less is noise


def write_data(folder: Path, n: int) -> None:
    """Rows with a decaying spectrum, written by blocks."""
    rng = np.random.default_rng(0)
    scales = 0.95 ** np.arange(COLUMNS)
    X = np.lib.format.open_memmap(folder / f"{n}.npy", mode="w+", dtype=np.float32, shape=(n, COLUMNS))
    for start in range(0, n, 50_000):
        stop = min(n, start + 50_000)
        X[start:stop] = rng.standard_normal((stop - start, COLUMNS)) * scales
    X.flush()


def measure(name: str, folder: Path, n: int) -> tuple[float, float, float]:
    """Peak extra and resident memory in MB, and processor seconds, of one call."""
    command = [sys.executable, "-c", WORKER, name, str(folder), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{name} on {n:,} rows failed:\n{done.stderr}")
    words = next(line for line in done.stdout.splitlines() if line.startswith("RESULT")).split()
    extra, resident, seconds = map(float, words[1:])
    return extra, resident, seconds


def exponent(small: float, large: float, *, least: float) -> float:
    """Of the growth over four times the rows."""
    return math.log(max(large, least) / max(small, least)) / math.log(4)


def main() -> None:
    words = sys.argv[1:]
    n = int(words.pop(0)) if words and words[0].isdecimal() else 1_000_000
    with tempfile.TemporaryDirectory(prefix="saddlegan-memory-") as place:
        folder = Path(place)
        for rows in (n // 4, n):
            write_data(folder, rows)
        print(f"{n:,} x {COLUMNS} float32: {n * COLUMNS * 4 / 2**20:,.0f} MB; in parentheses a quarter of the rows")
        print(f"{'':16}{'extra MB':>18}{'exponent':>10}{'resident MB':>20}{'seconds':>18}{'exponent':>10}")
        for name in words or NAMES:
            small, large = measure(name, folder, n // 4), measure(name, folder, n)
            pairs = [f"{b:.1f} ({a:.1f})" for a, b in zip(small, large, strict=True)]
            grown = exponent(small[0], large[0], least=LEAST), exponent(small[2], large[2], least=1e-3)
            print(f"{name:16}{pairs[0]:>18}{grown[0]:10.2f}{pairs[1]:>20}{pairs[2]:>18}{grown[1]:10.2f}", flush=True)


if __name__ == "__main__":
    main()
