"""The equilibrium spectrum: one pair against a ladder of lambda, from Stackelberg (0) to Nash (infinity)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from saddlegan.results import Certificate


@dataclasses.dataclass(frozen=True, repr=False)
class Spectrum:
    """Certificates of one pair along a ladder of lambda, and the critical lambda that they enclose.

    Proximal equilibria are nested: what is refuted at one lambda is refuted at every larger one, and what is proved at
    one is proved at every smaller one. The critical lambda is the supremum of those for which the pair is an
    equilibrium.

    Attributes:
        lams: the ladder, ascending.
        certificates: one for each.
        lower: the largest lambda proved (where `proved`) or not refuted; NaN if the pair is refuted at lambda = 0.
        upper: the smallest lambda refuted; infinity if none was; 0 if the pair is refuted at lambda = 0.
        proved: whether `lower` is proved rather than merely not refuted.
        sentence: the finding in words.
        stats: the method and its figures, by name.

    References:
        [FO20] nestedness of proximal equilibria; theory 2.
    """

    lams: tuple[float, ...]
    certificates: tuple[Certificate, ...]
    lower: float
    upper: float
    proved: bool
    sentence: str
    stats: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Spectrum(lower={self.lower:.6g}, upper={self.upper:.6g}, proved={self.proved})"

    @property
    def generator_gains(self) -> tuple[float, ...]:
        """The generator's gain at each lambda."""
        return tuple(certificate.generator_gain for certificate in self.certificates)


def summarise(
    certificates: Mapping[float, Certificate], *, stats: Mapping[str, Any], proved_only: bool = False
) -> Spectrum:
    """Enclose the critical lambda by the verdicts along a ladder.

    Args:
        certificates: by lambda, in any order.
        stats: passed on.
        proved_only: whether `lower` must be proved where anything is.
    """
    lams = tuple(sorted(certificates))
    verdicts = {lam: certificates[lam].verdict for lam in lams}
    upper = next((lam for lam in lams if verdicts[lam] == "refuted"), math.inf)
    refuted = "refuted" in verdicts.values()
    below = [lam for lam in lams if not refuted or lam < upper]
    proved_at = [lam for lam in below if verdicts[lam] == "proved"]
    if proved_only and proved_at:
        below = proved_at
    lower = below[-1] if below else math.nan
    proved = lower in proved_at
    sentence = _sentence(lower, upper if refuted else None, proved)
    return Spectrum(lams, tuple(certificates[lam] for lam in lams), lower, upper, proved, sentence, stats)


def _sentence(lower: float, upper: float | None, proved: bool) -> str:
    if math.isnan(lower):
        return "The pair is refuted at the smallest lambda tried, hence at every larger one."
    standing = "is proved to be" if proved else "was not refuted as"
    if math.isinf(lower):
        return f"The pair {standing} a Nash equilibrium, and with it a proximal equilibrium for every lambda."
    name = "a Stackelberg equilibrium" if lower == 0 else f"a proximal equilibrium up to lambda = {lower:.6g}"
    if upper is None:
        return f"The pair {standing} {name}, the largest lambda tried."
    end = "as a Nash equilibrium" if math.isinf(upper) else f"from lambda = {upper:.6g} on"
    return f"The pair {standing} {name} and is refuted {end}."
