"""Certificates over training: a gap every so many steps, and a stopping rule."""

from __future__ import annotations

import math
from typing import final

from saddlegan import checks
from saddlegan.certify._diagnosis import Diagnosis, diagnose
from saddlegan.certify._verdict import proximal_duality_gap
from saddlegan.certify.search._judge import check_lam
from saddlegan.certify.search._measure import Data
from saddlegan.game import Game
from saddlegan.proximal import Norm
from saddlegan.results import Certificate, Status
from saddlegan.search import Search


@final
class Watch:
    """Measures the proximal duality gap along a training and says when it is small enough.

    Every measurement has the same budget, the same data split and the same seed, so that the gaps of one watch can be
    compared with each other. Training is not disturbed: the pair and all random states are left as they were.

    Args:
        game: the pair in training.
        data: real samples, see `certify.nash`.
        every: measure at steps that are multiples of this number.
        lam: weight of the proximal term; infinity for the plain duality gap.
        below: stop when the gap, what its searches were still growing by, and twice its standard error are together
            below this number; never stop if None. Only a gap whose search settled and saw something stops a training.
        norm: distance of the proximal term.
        search: budget of one measurement.
        random_state: seed of every measurement.
        diagnose: whether to say with each measurement what is wrong with the pair, see `certify.diagnose`.

    Attributes:
        history: (step, certificate) of every measurement.
        diagnoses: (step, diagnosis) of every measurement, where they are wanted.

    Raises:
        InputError: `every` is below 1, `below` is negative, or `lam` or `norm` is out of range.

    References:
        [SAK21] monitoring with the proximal duality gap.

    Example:
        >>> import torch
        >>> from saddlegan.certify import matrix_game
        >>> pennies = matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[0.5, 0.5], column=[0.5, 0.5])
        >>> watch = Watch(pennies, torch.zeros(1, 2), every=10, lam=1.0, below=0.1)
        >>> watch(5), watch(10), len(watch.history)
        (False, True, 1)
    """

    def __init__(
        self,
        game: Game,
        data: Data,
        *,
        every: int,
        lam: float = 1.0,
        below: float | None = None,
        norm: Norm = "sobolev",
        search: Search | None = None,
        random_state: checks.RandomState = 0,
        diagnose: bool = False,
    ) -> None:
        self._game, self._data, self._every = game, data, checks.count("every", every)
        self._below = None if below is None else checks.number("below", below)
        self._norm: Norm = norm
        self._lam, self._search = check_lam(lam, norm), search
        self._seed = checks.seed(random_state)  # one for all measurements, so that they differ by the pair alone
        self._diagnose = diagnose
        self.history: list[tuple[int, Certificate]] = []
        self.diagnoses: list[tuple[int, Diagnosis]] = []

    def __call__(self, step: int) -> bool:
        """Measure if it is time to; return whether training may stop.

        Args:
            step: number of training steps done.
        """
        if step % self._every:
            return False
        certificate = proximal_duality_gap(
            self._game,
            self._data,
            lam=self._lam,
            norm=self._norm,
            search=self._search,
            random_state=self._seed,
        )
        self.history.append((step, certificate))
        if self._diagnose:
            named = {certificate.kind: certificate}
            found = diagnose(self._game, self._data, certificates=named, random_state=self._seed)
            self.diagnoses.append((step, found))
        # a generator's gain that was seen, though too few starts leave its verdict open, is too large if anything
        seen = certificate.generator_gain > certificate.stats.get("thresholds", {}).get("generator", math.inf)
        settled = certificate.status in (Status.SETTLED, Status.OPTIMAL)
        sighted = settled and (seen or certificate.verdict != "undecided")
        if self._below is None or not sighted:
            return False  # a search that failed, was cut short or saw nothing makes every pair look good
        return certificate.gap + certificate.stats.get("growth", 0.0) + 2.0 * certificate.standard_error < self._below
