"""What an experiment is and what it finds. Nobody writes a verdict: it follows from the checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from saddlegan.workbench.reproductions.work import Work

Verdict = Literal["reproduced", "partly", "not reproduced"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One statement of a source beside what was found.

    Attributes:
        claim: the statement, in our notation.
        found: what was computed, with its spread over the seeds.
        holds: whether the statement holds as it is made.
        ours: the statement is not the source's but ours: a correction or a comparison; it does not enter the verdict.
    """

    claim: str
    found: str
    holds: bool
    ours: bool = False


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture with its words."""

    png: bytes
    alt: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of an experiment.

    Attributes:
        setting: what was computed on, by name.
        checks: the claims.
        figures: pictures for the report.
        numbers: every figure behind the words, plain JSON.
        remark: what a reader should know of the proof or its limits.
    """

    setting: Mapping[str, Any]
    checks: Sequence[Check]
    figures: Sequence[Figure] = ()
    numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    remark: str = ""

    @property
    def verdict(self) -> Verdict:
        """Reproduced if all of the source's claims hold, partly if some do."""
        held = [check.holds for check in self.checks if not check.ours]
        return "reproduced" if all(held) else "partly" if any(held) else "not reproduced"

    @property
    def why(self) -> str:
        """The claims that fail, in words."""
        claims = [check for check in self.checks if not check.ours]
        failed = [check for check in claims if not check.holds]
        if not failed:
            return f"all {len(claims)} claims of the source hold"
        return "; ".join(f"“{check.claim}” does not hold: {check.found}" for check in failed)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        name: the word on the command line.
        paper: "hidden convexity", "Nash equilibria" or "primal-dual".
        claim: what is said.
        source: where.
        run: computes it, given seeds, size and data.
        seeds: how many seeds a full run takes.
        takes_data: whether it can be run on pictures of the user's, `--data`.
    """

    name: str
    paper: str
    claim: str
    source: str
    run: Callable[[Work], Finding]
    seeds: int = 5
    takes_data: bool = False


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{np.mean(values):.4g} ± {np.std(values):.2g}" if len(values) > 1 else f"{values[0]:.4g}"
