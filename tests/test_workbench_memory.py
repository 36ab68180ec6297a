"""Freed memory is kept: counted in page faults, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import torch
from saddlegan.workbench import memory
if sys.argv[1] == "keep" and not memory.keep_freed():
    raise SystemExit(77)
torch.set_num_threads(1)
ones = torch.ones(1 << 19)
for round in range(8):
    if round == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [ones + 1.0 for _ in range(20)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNT, word], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("another C library than glibc")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_freed_memory_is_used_again() -> None:
    assert faults("keep") < 0.1 * faults("leave")
