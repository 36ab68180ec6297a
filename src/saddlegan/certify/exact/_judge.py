"""From exact gains to verdicts."""

from __future__ import annotations

import math

from saddlegan.certify.exact._base import AbstractExactGame, certificate
from saddlegan.results import Certificate, Status


def judge_exactly(kind: str, exact: AbstractExactGame, *, lam: float) -> Certificate | None:
    """Judge by exact best responses and nestedness; None where these leave the question open.

    A Nash pair is proximal for every lam; a pair whose discriminator is not a best response, or whose generator is
    not Stackelberg, is proximal for none. No player can gain less than nothing: a gain below zero by more than its own
    error says that the computation failed, and is never a proof. Gains that only single precision explains decide
    nothing.
    """
    value = exact.value
    discriminator, generator = exact.discriminator_gain, exact.generator_gain
    d_error, g_error = exact.discriminator_tolerance, exact.generator_tolerance
    stats = {"value": value, "tolerance": exact.tolerance, "lam": lam, **exact.stats}
    if not (discriminator >= -d_error and generator >= -g_error):  # NaN fails as well
        stats["argument"] = "an exact gain is negative beyond its rounding error: the computation failed"
        stats["doubt"] = stats["argument"]
        return certificate(kind, generator, discriminator, "none", "undecided", stats, status=Status.FAILED)
    is_nash = discriminator <= d_error and generator <= g_error
    if is_nash and not exact.provable:
        # a search would be no better judge: it compares parts of the very data that the pair was solved for
        stats["doubt"] = "its gains are within the error of the precision in which weights or data are stored"
        return certificate(kind, generator, discriminator, "none", "undecided", stats)
    # no exact gain is off by more than its error, and a proximal gain is at most the Nash gain
    upper = max(discriminator, 0.0) + d_error + max(generator, 0.0) + g_error
    if math.isinf(lam) or is_nash:
        verdict = "proved" if is_nash else "refuted"
        if not math.isinf(lam):
            stats["argument"] = "a Nash equilibrium is proximal for every lam; its Nash gains bound the proximal ones"
        return certificate(kind, generator, discriminator, "exact", verdict, stats, upper=upper)
    leader = exact.stackelberg_value
    if leader is not None:
        stackelberg = value - leader  # signed: negative where D is not a best response
        refuted = discriminator > d_error or exact.best_discriminator_value - leader > exact.tolerance
        if lam == 0 and (refuted or exact.provable):
            verdict = "refuted" if refuted else "proved"
            leads = max(stackelberg, 0.0) + max(discriminator, 0.0) + d_error + exact.tolerance
            return certificate(kind, stackelberg, discriminator, "exact", verdict, stats, upper=min(leads, upper))
        if refuted:
            stats["argument"] = "not a Stackelberg equilibrium, hence not proximal; the gains are those at lam = 0"
            return certificate(kind, stackelberg, discriminator, "lower", "refuted", stats, upper=upper)
    elif discriminator > d_error:
        stats["argument"] = "the discriminator has a better response, whatever lam is; the generator's gain is unknown"
        return certificate(kind, 0.0, discriminator, "lower", "refuted", stats, upper=upper)
    return None
