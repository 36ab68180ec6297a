"""Freed memory is kept: counted in page faults, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource
import torch
from saddlegan.workbench.training import memory
if not memory.keep_freed():
    raise SystemExit(77)
torch.set_num_threads(1)
ones = torch.ones(10, 256, 128)
for round in range(20):
    if round == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [ones + 1.0 for _ in range(30)]
    kept.clear()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults() -> int:
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("another C library than glibc")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow  # a process of its own
def test_freed_memory_is_used_again() -> None:
    # 300 arrays of 320 pages; by default most runs fault on every page, some on few: it depends on what lies above them
    assert faults() < 5_000
