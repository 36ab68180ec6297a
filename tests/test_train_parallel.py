"""Two gloo processes against one: same batch, same latents, same update to rounding, for every rule."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from train_cases import RULES, bits, data, largest_difference, mlp_game

pytestmark = pytest.mark.slow  # starts two processes

# each process unrolls on its own share, a different update: see the rule's docstring
EXACT = [name for name in RULES if name != "unrolled"]

WORK = """
import sys
import torch
import torch.distributed as dist
from train_cases import RULES, bits, data, mlp_game

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
results = {}
for name, make in RULES.items():
    game = mlp_game(seed=0 if rank == 0 else 5)  # the first process's players must win
    rule = make(game, torch.Generator().manual_seed(3), dist.group.WORLD)
    parts = 2 if name == "alternating" else 1  # its n_critic
    for seed in range(3):
        step = rule.step(torch.cat([batch.chunk(2)[rank] for batch in data(16, seed=seed).chunk(parts)]))
    results[name] = (bits(game), step.value, step.generator_loss, step.discriminator_loss)
torch.save(results, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("gloo")
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "src")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", WORK, str(rank), str(folder)], env=environment) for rank in (0, 1)
    ]
    assert [process.wait(timeout=200) for process in running] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", RULES)
def test_both_processes_hold_the_same_bits(two_processes: list[dict], name: str) -> None:
    first, second = (results[name] for results in two_processes)
    assert all(torch.equal(a, b) for a, b in zip(first[0], second[0], strict=True))
    assert first[1:] == second[1:]


@pytest.mark.parametrize("name", EXACT)
def test_two_processes_equal_one(two_processes: list[dict], name: str) -> None:
    game = mlp_game()
    rule = RULES[name](game, torch.Generator().manual_seed(3), None)
    for seed in range(3):
        step = rule.step(data(16, seed=seed))
    parameters, *figures = two_processes[0][name]
    assert largest_difference(bits(game), parameters) < 1e-10
    assert figures == pytest.approx([step.value, step.generator_loss, step.discriminator_loss], abs=1e-10)
