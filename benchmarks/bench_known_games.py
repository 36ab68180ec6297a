"""Every certificate on every game with a known answer, 20 seeds each: counts false verdicts (the target is none).

python benchmarks/bench_known_games.py [seeds] [steps] [game ...]
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from pathlib import Path

import torch

from saddlegan import certify
from saddlegan.errors import BudgetWarning

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from games import MAKERS, Known


def verdicts(known: Known, *, steps: int, seed: int, exact: bool) -> list[tuple[str, float, str]]:
    """Kind, lambda and verdict of each certificate."""
    search = known.search(steps=steps, samples=2048, evaluations=max(4, steps // 10))
    found = [
        (
            "nash",
            math.inf,
            certify.nash(known.game, known.data, search=search, random_state=seed, exact=exact).verdict,
        ),
        (
            "stackelberg",
            0.0,
            certify.stackelberg(known.game, known.data, search=search, random_state=seed, exact=exact).verdict,
        ),
    ]
    for lam in (0.5, 10.0):
        certificate = certify.proximal(
            known.game, known.data, lam=lam, norm=known.norm, search=search, random_state=seed, exact=exact
        )
        found.append(("proximal", lam, certificate.verdict))
    return found


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", BudgetWarning)
    total = dict.fromkeys(("verdicts", "false proved", "false refuted", "true refuted", "missed"), 0)
    for name in sys.argv[3:] or list(MAKERS):
        started = time.perf_counter()
        count = dict.fromkeys(total, 0)
        for seed in range(seeds):
            for moved in (False, True):
                known = MAKERS[name](seed, moved=moved)
                for exact in (True, False) if known.provable else (False,):
                    for kind, lam, verdict in verdicts(known, steps=steps, seed=seed, exact=exact):
                        truth = known.equilibrium(lam)
                        count["verdicts"] += 1
                        count["false proved"] += verdict == "proved" and not truth
                        count["false refuted"] += verdict == "refuted" and truth
                        count["true refuted"] += verdict == "refuted" and not truth
                        count["missed"] += verdict == "not refuted" and not truth
                        if verdict == ("refuted" if truth else "proved"):
                            print(f"  FALSE: {name}, seed {seed}, moved {moved}, exact {exact}: {kind} {lam} {verdict}")
        for key in total:
            total[key] += count[key]
        print(f"{name:15s} {count} {time.perf_counter() - started:.0f} s", flush=True)
    print(f"{'all':15s} {total}")


if __name__ == "__main__":
    main()
