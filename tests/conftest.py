"""Shared set-up: one torch thread (small matrices), a fresh seeded generator per test."""

import os
import tempfile

# before torch is loaded, and for the processes that tests start: two of each share two cores
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

os.environ.setdefault("MPLBACKEND", "Agg")
CACHE = tempfile.TemporaryDirectory(prefix="saddlegan-tests-")  # nobody's own cache is touched
os.environ.setdefault("SADDLEGAN_CACHE", CACHE.name)
torch.set_num_threads(1)


@pytest.fixture
def rng() -> torch.Generator:
    """A seeded generator; the global one is never touched."""
    return torch.Generator().manual_seed(0)
