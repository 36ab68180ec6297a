"""The equilibrium spectrum: one pair against a ladder of lambda, from Stackelberg (0) to Nash (infinity)."""

from __future__ import annotations

import dataclasses
import itertools
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
        lower: the largest lambda proved (where `proved`) or not refuted below any doubt; NaN if there is none.
        upper: the smallest lambda refuted; infinity if none was; 0 if the pair is refuted at lambda = 0.
        proved: whether `lower` is proved rather than merely not refuted.
        sentence: the finding in words.
        stats: the method and its figures, by name.
        violations: pairs of lambda, ascending, between which nestedness fails: the generator's gain falls by more than
            twice both standard errors and what an unfinished inner maximum may hide, or a refuted pair is proved. A
            search that failed, or rounding; the sentence says so. Empty where all is well.
        suspected: the smallest lambda at which the pair is suspected; infinity if none is (or only Nash itself, which a
            search can refute but not suspect).

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
    violations: tuple[tuple[float, float], ...] = ()
    suspected: float = math.inf

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
    suspected = next((lam for lam in lams if verdicts[lam] == "suspected"), math.inf)
    standing = [lam for lam in lams if verdicts[lam] in ("proved", "not refuted")]
    below = [lam for lam in standing if (not refuted or lam < upper) and (lam < suspected or math.isinf(suspected))]
    proved_at = [lam for lam in below if verdicts[lam] == "proved"]
    if proved_only and proved_at:
        below = proved_at
    lower = below[-1] if below else math.nan
    proved = lower in proved_at
    sentence = _sentence(lower, upper if refuted else None, proved, suspected, smallest=lams[0])
    violations = tuple(
        (low, high) for low, high in itertools.combinations(lams, 2) if _violated(certificates[low], certificates[high])
    )
    if violations:
        low, high = violations[0]
        sentence += (
            f" The certificates at lambda = {low:g} and {high:g} contradict nestedness by more than their errors: a "
            "search failed, and one with more steps or restarts is needed."
        )
    return Spectrum(
        lams, tuple(certificates[lam] for lam in lams), lower, upper, proved, sentence, stats, violations, suspected
    )


def _violated(low: Certificate, high: Certificate) -> bool:
    """Whether the certificate at the larger lambda cannot be true beside the one at the smaller."""
    if low.verdict == "refuted" and high.verdict == "proved":
        return True
    return low.generator_gain - high.generator_gain > _allowance(low) + _allowance(high)


def _allowance(certificate: Certificate) -> float:
    stats = certificate.stats
    rounding = 1e-9 * (1.0 + abs(stats.get("value", 0.0)))
    error = stats.get("standard_errors", {}).get("generator", certificate.standard_error)
    return 2.0 * error + stats.get("inner_slack", 0.0) + stats.get("tolerance", 0.0) + rounding


def _sentence(lower: float, upper: float | None, proved: bool, suspected: float, *, smallest: float) -> str:
    doubt = f"is suspected not to be a proximal equilibrium from lambda = {suspected:.6g} on"
    doubtful = math.isfinite(suspected) and (upper is None or suspected < upper)
    if math.isnan(lower) and upper != smallest:
        end = (
            "" if upper is None else " as a Nash equilibrium" if math.isinf(upper) else f" from lambda = {upper:.6g} on"
        )
        if doubtful:
            return f"The pair {doubt}" + (f", and is refuted{end}." if end else ".")
        return (
            f"The pair is refuted{end}; below that nothing is decided." if end else "Nothing is decided about the pair."
        )
    if math.isnan(lower) and smallest == 0:
        return (
            "The pair is refuted as a Stackelberg equilibrium, hence as a proximal equilibrium for every lambda and "
            "as a Nash equilibrium."
        )
    if math.isnan(lower):
        return f"The pair is refuted at lambda = {smallest:.6g}, the smallest tried, hence at every larger one."
    standing = "is proved to be" if proved else "was not refuted as"
    if math.isinf(lower):
        return f"The pair {standing} a Nash equilibrium, and with it a proximal equilibrium for every lambda."
    name = "a Stackelberg equilibrium" if lower == 0 else f"a proximal equilibrium up to lambda = {lower:.6g}"
    if doubtful:
        last = "" if upper is None else " and refuted as a Nash equilibrium" if math.isinf(upper) else ""
        last = last or ("" if upper is None else f" and refuted from lambda = {upper:.6g} on")
        return f"The pair {standing} {name}, and {doubt}{last}."
    if upper is None:
        return f"The pair {standing} {name}, the largest lambda tried."
    end = "as a Nash equilibrium" if math.isinf(upper) else f"from lambda = {upper:.6g} on"
    return f"The pair {standing} {name} and is refuted {end}."
