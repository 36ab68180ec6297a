"""Two gloo processes against one: same batch, same latents, same update to rounding, for every rule."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from saddlegan import Game, fit, train
from saddlegan.errors import InputError
from train_cases import RULES, bits, data, image_game, images, largest_difference, mlp_game

pytestmark = pytest.mark.slow  # starts two processes

PAIRS = {"mlp": (mlp_game, data, 16), "image": (image_game, images, 8)}
CASES = [(pair, name) for pair in PAIRS for name in RULES]

WORK = """
import itertools
import sys
import torch
import torch.distributed as dist
from saddlegan import networks, train
from saddlegan.errors import InputError
from test_train_parallel import CASES, PAIRS, drawn
from train_cases import RULES, bits, data, mlp_game

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
results = {}
for pair, name in CASES:
    make_game, make_data, n = PAIRS[pair]
    game = make_game(seed=0 if rank == 0 else 5)  # the first process's players must win
    rule = RULES[name](game, torch.Generator().manual_seed(3), dist.group.WORLD)
    parts = 2 if name == "alternating" else 1  # its n_critic
    for seed in range(3):
        step = rule.step(torch.cat([batch.chunk(2)[rank] for batch in make_data(n, seed=seed).chunk(parts)]))
    results[pair, name] = (bits(game), drawn(game), step.value, step.generator_loss, step.discriminator_loss)

said = {}
def refused(what, call):
    try:
        call()
        said[what] = "went"
    except InputError as error:
        said[what] = str(error)

def rule_for(game, name="alternating"):
    return RULES[name](game, torch.Generator().manual_seed(3), dist.group.WORLD)

for name in RULES:
    refused(f"unequal {name}", lambda: rule_for(mlp_game(), name).step(data(8 - 4 * rank)))
refused("empty", lambda: rule_for(mlp_game()).step(data(8 if rank else 3)))

class Memory(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(2, dtype=torch.float64))
    def forward(self, x):
        if self.training:
            self.seen.lerp_(x.detach().mean(0), 0.5)
        return x - self.seen

from saddlegan import Game
game = mlp_game()
own = Game(game.G, torch.nn.Sequential(Memory(), game.D), latent=3)
refused("own statistics", lambda: rule_for(own, "simultaneous").step(data(8, seed=rank)))

rule, steps = rule_for(mlp_game(), "simultaneous"), 0
for x in train.together([data(4)] * (5 - 2 * rank), dist.group.WORLD):
    rule.step(x)
    steps += 1
said["together"] = steps
batches = iter([data(4)] * (2 + rank))
def until_it_ends():
    while True:
        rule.step(batches)
refused("iterator", until_it_ends)
torch.save((results, said), f"{folder}/{rank}.pt")
if rank == 1:
    import os
    os._exit(0)  # without a word, as a process that is killed
refused("gone", lambda: rule.step(data(4)))
torch.save((results, said), f"{folder}/{rank}.pt")
os = __import__("os")
os._exit(0)
"""


@torch.no_grad()
def drawn(game: Game) -> torch.Tensor:
    """Samples in evaluation mode, from the running statistics."""
    return game.G.eval()(torch.randn(8, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict, dict]]:
    folder = tmp_path_factory.mktemp("gloo")
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "src")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", WORK, str(rank), str(folder)], env=environment) for rank in (0, 1)
    ]
    assert [process.wait(timeout=280) for process in running] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize(("pair", "name"), CASES)
def test_both_processes_hold_the_same_bits(two_processes: list[tuple[dict, dict]], pair: str, name: str) -> None:
    first, second = (results[pair, name] for results, _ in two_processes)
    assert all(torch.equal(a, b) for a, b in zip(first[0], second[0], strict=True))
    assert torch.equal(first[1], second[1])
    assert first[2:] == second[2:]


@pytest.mark.parametrize(("pair", "name"), CASES)
def test_two_processes_equal_one(two_processes: list[tuple[dict, dict]], pair: str, name: str) -> None:
    make_game, make_data, n = PAIRS[pair]
    game = make_game()
    rule = RULES[name](game, torch.Generator().manual_seed(3), None)
    step = [rule.step(make_data(n, seed=seed)) for seed in range(3)][-1]
    parameters, samples, *figures = two_processes[0][0][pair, name]
    assert largest_difference(bits(game), parameters) < 1e-9
    assert largest_difference([drawn(game)], [samples]) < 1e-9
    assert figures == pytest.approx([step.value, step.generator_loss, step.discriminator_loss], abs=1e-9)


def test_unequal_processes_are_refused_by_name_in_all_of_them(two_processes: list[tuple[dict, dict]]) -> None:
    for _, said in two_processes:
        for name in RULES:
            assert "as many rows" in said[f"unequal {name}"]
            rows = "4, 2" if name == "alternating" else "8, 4"  # of each of its n_critic batches
            assert f"{rows} rows of 2, 2 numbers" in said[f"unequal {name}"]
        assert "the buffer D.0.seen follows each process's own rows" in said["own statistics"]
        assert said["together"] == 3
    (_, first), (_, second) = two_processes
    assert "multiple of 2" in first["empty"]
    assert "has left" in second["empty"]
    assert "ended after 0 of the 1" in first["iterator"]
    assert "has left: it ran out of data" in second["iterator"]
    assert "has left: it ran out of data" in first["gone"]


def test_together_without_a_group_is_the_loop() -> None:
    assert list(train.together(iter("abc"))) == ["a", "b", "c"]
    with pytest.raises(InputError, match="not initialised"):
        next(train.together([1], object()))  # type: ignore[arg-type]


def script_in(page: str, name: str) -> str:
    """The block of a page that begins with the script's name."""
    text = (Path(__file__).parents[1] / "docs" / page).read_text()
    found = re.search(rf"```python\n(# {re.escape(name)}, started .*?)```", text, re.DOTALL)
    assert found is not None, f"{page} has no {name}"
    return found[1]


def run_with_two_processes(script: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


# A thread of gloo that outlives the group may free a tensor while Python ends, which aborts the process: seldom, and
# under load only. That no thread is left shows it every time.
NO_THREAD_LEFT = """
from pathlib import Path
left = [task.read_text() for task in Path("/proc/self/task").glob("*/comm") if "gloo" in task.read_text()]
assert not left, left
"""


def test_the_pages_script_trains_with_two_processes(tmp_path: Path) -> None:
    (tmp_path / "parallel.py").write_text(script_in("training.md", "parallel.py") + NO_THREAD_LEFT)
    assert run_with_two_processes(tmp_path / "parallel.py") == "5 steps\n"


def test_the_pages_script_solves_with_two_processes(tmp_path: Path) -> None:
    X = np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", X)
    script = script_in("procogan.md", "stages.py")
    assert script.count("/shared/") == 2
    (tmp_path / "stages.py").write_text(
        script.replace("/shared/", f"{tmp_path}/")
        + NO_THREAD_LEFT
        + f"import os\nif os.environ['RANK'] == '0':\n    np.save({str(tmp_path / 'values')!r}, model.eigenvalues_)\n"
    )
    run_with_two_processes(tmp_path / "stages.py")
    # the covariance of bytes has the same bits on every engine
    np.testing.assert_allclose(np.load(tmp_path / "values.npy"), fit.ProCoGAN().fit(X).eigenvalues_, rtol=1e-9)
