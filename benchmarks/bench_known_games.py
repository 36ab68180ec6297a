"""Every certificate on every family with a known answer, over seeds and units: counts false verdicts (the target is 0).

python benchmarks/bench_known_games.py [--seeds 20] [--steps 400] [--out verdicts.jsonl] [family ...]

Verdicts are written one a line as they come; what is there already is not judged again. The table counts the lines.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from saddlegan.errors import BlindWarning, BudgetWarning

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from families import FAMILIES, judged  # pyright: ignore[reportMissingImports]

COLUMNS = ("false proved", "false refuted", "proved", "refuted", "suspected", "undecided", "not refuted", "missed")


def tally(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Count verdicts; "missed" are pairs that are no equilibrium and were neither refuted nor suspected nor doubted."""
    counts: collections.Counter[str] = collections.Counter(pairs=len(rows))
    for row in rows:
        counts[row["verdict"]] += 1
        counts["false proved"] += row["verdict"] == "proved" and not row["truth"]
        counts["false refuted"] += row["verdict"] == "refuted" and row["truth"]
        counts["missed"] += row["verdict"] == "not refuted" and not row["truth"]
    return {name: counts[name] for name in ("pairs", *COLUMNS)}


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table and each false verdict."""
    print("| family | verdicts | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    groups = {name: [row for row in rows if row["family"] == name] for name in FAMILIES}
    for name, own in [*groups.items(), ("all", rows)]:
        if own:
            print(f"| {name} | " + " | ".join(str(count) for count in tally(own).values()) + " |")
    for row in rows:
        if row["verdict"] == ("refuted" if row["truth"] else "proved"):
            print("FALSE:", json.dumps(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--out", type=Path, default=Path("known-games.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", BudgetWarning)
    warnings.simplefilter("ignore", BlindWarning)
    settings = {"steps": options.steps, "samples": options.samples, "evaluations": min(20, options.steps)}
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    done = {(row["family"], row["seed"], row["unit"], row["steps"]) for row in rows}
    with options.out.open("a") as file:
        for seed in range(options.seeds):
            for name in options.families or FAMILIES:
                for unit in FAMILIES[name].units:
                    if (name, seed, unit, options.steps) in done:
                        continue
                    new = [
                        {
                            "family": name,
                            "seed": seed,
                            "unit": unit,
                            "steps": options.steps,
                            "lam": lam,
                            "truth": truth,
                            "verdict": certificate.verdict,
                            "status": certificate.status.name,
                            "gains": [certificate.generator_gain, certificate.discriminator_gain],
                        }
                        for lam, truth, certificate in judged(name, seed, unit, search=settings)
                    ]
                    file.writelines(json.dumps(row) + "\n" for row in new)
                    file.flush()
                    rows += new
    show(rows)


if __name__ == "__main__":
    main()
