"""What the three doors return: frozen dataclasses with a one-line `repr`.

`Solution` comes from `fit`, `Step` from `train`, `Certificate` from `certify`, `Discrepancy` from `fit.discrepancy`.
Numbers are Python floats, vectors stay arrays or tensors, and everything particular to one method lies in `stats`.
"""

from __future__ import annotations

import dataclasses
import enum
import html
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from saddlegan.errors import InputError

Result = TypeVar("Result")
Bound = Literal["exact", "lower", "none"]
Verdict = Literal["proved", "refuted", "suspected", "not refuted", "undecided"]
NOT_FINITE = ("nan", "inf", "-inf")  # as strings in JSON, which has no such numbers
_CLAIMS = {
    "nash": "a Nash equilibrium",
    "duality gap": "a Nash equilibrium",
    "stackelberg": "a Stackelberg equilibrium",
    "proximal": "a proximal equilibrium",
    "proximal duality gap": "a proximal equilibrium",
}


class Status(enum.Enum):
    """How a computation ended. The value is the message that a user reads."""

    OPTIMAL = "solved to optimality: primal value and dual bound agree"
    ESTIMATED = "optimal for estimated feature moments; the population constraint holds up to their error in `stats`"
    FEASIBLE = "a feasible point with a dual bound; the gap between them is open"
    LOCAL = "inner maximum exact, outer minimum local; `bound` is a lower bound on the global minimum"
    SETTLED = "the search settled: its gain stopped growing"
    BUDGET_SPENT = "the step budget was spent before the search settled; raise `steps`"
    BLIND = "gradients vanish at this pair: a search sees nothing, which is no evidence for it"
    NON_FINITE = "a value became NaN or infinite; lower the step size or check the data"
    FAILED = "the solver failed"

    @property
    def ok(self) -> bool:
        """True unless the computation failed or became non-finite.

        Example:
            >>> Status.OPTIMAL.ok, Status.FAILED.ok
            (True, False)
        """
        return self not in (Status.NON_FINITE, Status.FAILED)


def _line(result: Any, skip: tuple[str, ...] = ("stats",)) -> str:
    parts: list[str] = []
    for field in dataclasses.fields(result):
        if field.name in skip:
            continue
        value = getattr(result, field.name)
        if isinstance(value, float):
            parts.append(f"{field.name}={value:.6g}")
        elif isinstance(value, Status):
            parts.append(f"{field.name}={value.name}")
        elif isinstance(value, (str, bool, int)):
            parts.append(f"{field.name}={value!r}")
        else:
            parts.append(f"{field.name}=<shape {tuple(getattr(value, 'shape', ()))}>")
    return f"{type(result).__name__}({', '.join(parts)})"


@dataclasses.dataclass(frozen=True, repr=False)
class Solution:
    """An optimum with its own certificate.

    Attributes:
        value: primal value, the regulariser R_g at the point found, in squared data units.
        bound: dual value: no feasible generator has a smaller R_g.
        gap: value - bound, kept with its sign (a tiny negative gap is rounding).
        status: how the solve ended.
        stats: residuals, sizes and timings by name; `primal_residual` <= 0 means feasible, `dual_residual` <= 0 means
            that the bound is valid.

    Example:
        >>> Solution(value=2.0, bound=2.0, gap=0.0, status=Status.OPTIMAL)
        Solution(value=2, bound=2, gap=0, status=OPTIMAL)
    """

    value: float
    bound: float
    gap: float
    status: Status
    stats: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return _line(self)

    def _repr_html_(self) -> str:
        message = html.escape(self.status.value)
        rows = {
            "value (primal)": f"{self.value:.9g}",
            "bound (dual)": f"{self.bound:.9g}",
            "gap": f"{self.gap:.2g}",
            **{name: f"{v:.4g}" for name, v in self.stats.items() if isinstance(v, (int, float)) and name != "status"},
        }
        body = "".join(f"<tr><th>{html.escape(name)}</th><td>{value}</td></tr>" for name, value in rows.items())
        return f"<p><strong>{message[:1].upper()}{message[1:]}</strong></p><table>{body}</table>"

    def plot(self) -> Any:
        """Draw the value found above the bound that no feasible point goes below; returns a matplotlib figure.

        Example:
            >>> Solution(value=2.0, bound=1.5, gap=0.5, status=Status.FEASIBLE).plot().axes[0].get_title()
            'gap 0.5'
        """
        from matplotlib.figure import Figure  # only where a picture is wanted

        figure = Figure(figsize=(5.0, 1.8), layout="constrained")
        ax = figure.subplots()
        ax.barh(["bound (dual)", "value (primal)"], [self.bound, self.value], color=["#c3c8d0", "#0072B2"])
        if math.isfinite(self.value) and math.isfinite(self.bound):
            ax.axvline(self.bound, color="#20242b", lw=0.8, ls="--")
        ax.set_title(f"gap {self.gap:.2g}")
        ax.set_xlabel(self.status.value if len(self.status.value) < 60 else self.status.name.lower())
        return figure


@dataclasses.dataclass(frozen=True, repr=False)
class Step:
    """What one training step saw. Each rule's `step` says at which iterate every figure is measured.

    Attributes:
        value: V(G, D) of equation (0), penalties included.
        generator_loss: what the generator descended.
        discriminator_loss: what the discriminator descended.
        stats: figures particular to the rule, by name.
    """

    value: float
    generator_loss: float
    discriminator_loss: float
    stats: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return _line(self)


@dataclasses.dataclass(frozen=True, repr=False)
class Certificate:
    """A judgement about a pair (G, D), never stronger than what was computed.

    Attributes:
        kind: the question: "nash", "stackelberg", "proximal", "duality gap", ...
        gap: generator_gain + discriminator_gain, signed: a failed inner search shows as a negative number.
        generator_gain: how much the generator could lower its value by deviating alone.
        discriminator_gain: how much the discriminator could raise it by deviating alone.
        bound: "exact" if both gains are solved, "lower" if they come from a finite search, "none" if nothing is known.
        verdict: "proved" (needs an exact bound); "refuted" (a gain that is a lower bound); "suspected" (a gain found by
            a search within a search, which bounds nothing); "not refuted" (a settled search found none); "undecided"
            (the search saw nothing that it could trust).
        standard_error: sampling error of `gap` (0 for population or exact evaluations).
        status: how the computation ended.
        stats: settings and curves that produced the figures.
        upper: the true gap is at most this; infinity where no such bound is known.

    Raises:
        InputError: "proved" was claimed without an exact bound, or a field has an unknown value.
    """

    kind: str
    gap: float
    generator_gain: float
    discriminator_gain: float
    bound: Bound
    verdict: Verdict
    standard_error: float
    status: Status
    stats: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    upper: float = math.inf

    def __post_init__(self) -> None:
        if self.bound not in ("exact", "lower", "none"):
            raise InputError(f"`bound` must be 'exact', 'lower' or 'none', got {self.bound!r}")
        if self.verdict not in get_args(Verdict):
            raise InputError(
                f"`verdict` must be one of {', '.join(map(repr, get_args(Verdict)))}, got {self.verdict!r}"
            )
        if self.verdict == "proved" and self.bound != "exact":
            raise InputError("`verdict` 'proved' needs `bound` 'exact': a finite search can only refute")

    def __repr__(self) -> str:
        skip = ("stats", "upper") if math.isinf(self.upper) else ("stats",)
        return _line(self, skip)

    def __str__(self) -> str:
        return self.sentence

    @property
    def bracket(self) -> tuple[float, float] | None:
        """Both sides of the true gap, (at least, at most), on the samples it was measured on; None without an upper.

        The lower side counts the gains that bound something: a gain that a search within a search shows is left out,
        and no gain counts as less than 0.

        Example:
            >>> Certificate("nash", 0.1, 0.12, -0.02, "lower", "not refuted", 0.01, Status.SETTLED, upper=0.31).bracket
            (0.12, 0.31)
        """
        if math.isinf(self.upper):
            return None
        searched = self.stats.get("inner_maximum") == "searched" and math.isfinite(self.stats.get("lam", math.inf))
        strict = self.bound == "exact" or (self.bound == "lower" and not searched)
        strict = strict and not math.isnan(self.generator_gain)  # D alone refuted, and G was not searched
        least = max(self.discriminator_gain, 0.0) + (max(self.generator_gain, 0.0) if strict else 0.0)
        return least, max(least, self.upper)

    def within(self, epsilon: float) -> bool:
        """Whether the pair is proved to be an equilibrium up to epsilon: neither player could gain more than it.

        The proof is for the deviations that `stats["upper"]` names, on the samples that the gap was measured on.

        Args:
            epsilon: in units of V.

        Example:
            >>> found = Certificate("nash", 0.1, 0.12, -0.02, "lower", "not refuted", 0.01, Status.SETTLED, upper=0.31)
            >>> found.within(0.5), found.within(0.2)
            (True, False)
        """
        return self.upper <= epsilon

    @property
    def sentence(self) -> str:
        """The finding in words, no stronger than the verdict; with both sides of the gap where they are known.

        Example:
            >>> Certificate("nash", 0.5, 0.5, 0.0, "lower", "refuted", 0.01, Status.SETTLED).sentence
            'The pair is refuted as a Nash equilibrium: the generator could gain at least 0.5 (standard error 0.01).'
        """
        both = self.bracket
        if both is None or self.verdict == "proved":
            return self._finding
        parts = self.stats.get("upper", {})
        scope = " and ".join(part["scope"] for part in parts.values()) if isinstance(parts, Mapping) else ""
        over = f", over {scope}" if scope else ""
        return f"{self._finding} On these samples the gap lies in [{both[0]:.4g}, {both[1]:.4g}]{over}."

    def _repr_html_(self) -> str:
        rows = [("verdict", self.verdict), ("gap", f"{self.gap:.4g}"), ("standard error", f"{self.standard_error:.2g}")]
        for player, gain in (("generator", self.generator_gain), ("discriminator", self.discriminator_gain)):
            rows.append((f"{player}'s gain", "not measured" if math.isnan(gain) else f"{gain:.4g}"))
        if self.bracket is not None:
            rows.append(("gap, from and to", "{:.4g} to {:.4g}".format(*self.bracket)))
        rows.append(("status", self.status.value))
        cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>" for name, text in rows)
        return f"<p>{html.escape(self.sentence)}</p><table>{cells}</table>"

    def plot(self) -> Any:
        """Draw both gains with their errors and upper ends, and the curves of the searches where there were any.

        Returns:
            A matplotlib figure, not shown yet.

        Example:
            >>> found = Certificate("nash", 0.5, 0.5, 0.0, "lower", "refuted", 0.01, Status.SETTLED)
            >>> [axes.get_title() for axes in found.plot().axes]
            ['nash: refuted']
        """
        from matplotlib.figure import Figure  # only where a picture is wanted

        curves = {name: curve for name, curve in self.stats.get("curves", {}).items() if len(curve)}
        figure = Figure(figsize=(9.0 if curves else 4.5, 3.6), layout="constrained")
        axes = figure.subplots(1, 2 if curves else 1, squeeze=False)[0]
        gains = {"generator": self.generator_gain, "discriminator": self.discriminator_gain}
        errors, uppers = self.stats.get("standard_errors", {}), self.stats.get("upper", {})
        for place, (name, gain) in enumerate(gains.items()):
            if not math.isfinite(gain):
                words = "not measured" if math.isnan(gain) else f"{gain:g}"
                axes[0].annotate(words, (place, 0.0), ha="center", va="bottom")
                continue
            error = 2.0 * errors.get(name, 0.0)
            axes[0].bar(place, gain, yerr=error if math.isfinite(error) else None, width=0.5, capsize=4)
            most = uppers[name]["gain"] if isinstance(uppers, Mapping) and name in uppers else math.inf
            if math.isfinite(most):
                axes[0].hlines(most, place - 0.25, place + 0.25, colors="black", linestyles="dashed")
                axes[0].annotate("at most", (place, most), ha="center", va="bottom")
        axes[0].axhline(0.0, color="black", linewidth=0.8)
        axes[0].set_xticks(range(2), list(gains))
        axes[0].set_ylabel("gain, in units of V")
        axes[0].set_title(f"{self.kind}: {self.verdict}")
        for name, curve in curves.items():
            axes[1].plot([step for step, _ in curve], [score for _, score in curve], label=name)
        if curves:
            axes[1].set_xlabel("search step")
            axes[1].set_ylabel("gain on the selection sample")
            axes[1].set_title("searches")
            axes[1].legend()
        return figure

    @property
    def _finding(self) -> str:
        claim = _CLAIMS.get(self.kind, f"an equilibrium ({self.kind})")
        if "proximal" in self.kind and "lam" in self.stats:
            claim += f" at lambda = {self.stats['lam']:g}"
        error = f" (standard error {self.standard_error:.2g})" if self.standard_error > 0 else ""
        gains = {"generator": self.generator_gain, "discriminator": self.discriminator_gain}
        most = max(gains, key=lambda name: gains[name])
        if self.verdict == "proved":
            return f"The pair is proved to be {claim}."
        if self.verdict == "refuted":
            if self.bound == "lower":  # only these players' gains bound anything from below
                most = self.stats.get("refuted_by", most)
                return f"The pair is refuted as {claim}: the {most} could gain at least {gains[most]:.4g}{error}."
            return f"The pair is refuted as {claim}: the {most} could gain {gains[most]:.4g}{error}."
        if self.verdict == "suspected":
            return (
                f"The pair is suspected not to be {claim}: a search within a search shows the generator a gain of "
                f"{self.generator_gain:.4g}{error}, which is no bound."
            )
        if self.verdict == "not refuted":
            return (
                f"The pair was not refuted as {claim}: a settled search found a gap of {self.gap:.4g}{error}. No proof."
            )
        return f"Whether the pair is {claim} is undecided: {self.stats.get('doubt', self.status.value)}."


@dataclasses.dataclass(frozen=True, repr=False)
class Discrepancy:
    """The left side of the constraint (1): how far apart two samples are for a class of discriminators.

    Attributes:
        value: the supremum, or the best lower bound found.
        upper: an upper bound; equal to `value` when `exact`.
        witness: unit vector (d,): the direction in which the samples differ most.
        exact: whether `value` is the supremum up to rounding.
    """

    value: float
    upper: float
    witness: Any
    exact: bool

    def __repr__(self) -> str:
        return _line(self)


def as_dict(result: Any) -> dict[str, Any]:
    """Turn a result into plain JSON types: enums by name, arrays and tensors as lists, NaN and infinity as strings.

    Args:
        result: any result of the library, such as a `Solution` or a `Certificate`; results within it are turned too.

    Returns:
        A dictionary with one entry per field, and the status's message beside its name; `from_dict` reads it.

    Example:
        >>> as_dict(Solution(1.0, 1.0, 0.0, Status.OPTIMAL))["status"]
        'OPTIMAL'
    """
    entries = {field.name: plain(getattr(result, field.name)) for field in dataclasses.fields(result)}
    if isinstance(getattr(result, "status", None), Status):
        entries["message"] = result.status.value
    return entries


def from_dict(kind: type[Result], entries: object) -> Result:
    """Read what `as_dict` wrote, field by field as the class declares them.

    Args:
        kind: the result's class.
        entries: the dictionary. What was an array or a tensor stays a list.

    Raises:
        InputError: no such result: a field is missing, unknown, or of another type; the message names it.

    Example:
        >>> from_dict(Solution, as_dict(Solution(1.0, -math.inf, math.inf, Status.FEASIBLE)))
        Solution(value=1, bound=-inf, gap=inf, status=FEASIBLE)
    """
    return _read(kind, entries, kind.__name__)


def _read(kind: Any, value: Any, place: str) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if kind is float and (value in NOT_FINITE or (isinstance(value, (int, float)) and not isinstance(value, bool))):
        return float(value)
    if kind in (int, bool, str) and type(value) is kind:
        return value
    if kind is Status and isinstance(value, str) and value in Status.__members__:
        return Status[value]
    if origin is Literal and value in parts:
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        if len(kinds) == len(value):
            return tuple(_read(*pair, f"{place}[{i}]") for i, pair in enumerate(zip(kinds, value, strict=True)))
    if origin is Mapping and isinstance(value, Mapping):
        return {key: _read(parts[1], entry, f"{place}.{key}") for key, entry in value.items()}
    if origin in (types.UnionType, Union):
        return None if value is None else _read(parts[0], value, place)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _read_fields(kind, value, place)
    declared = origin is not None or kind in (int, float, bool, str, Status) or dataclasses.is_dataclass(kind)
    if not declared:  # anything goes, and tensors
        return _finite_or_not(value)
    wanted = kind.__name__ if isinstance(kind, type) else str(kind)
    raise InputError(f"{place} must be of type {wanted}, got {value!r}")


def _read_fields(kind: Any, entries: Mapping[str, Any], place: str) -> Any:
    hints, fields = get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
    strange = sorted(entries.keys() - fields.keys() - {"message"})
    needed = {name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING}
    if strange or needed - entries.keys():
        fault = f"unknown field {strange[0]!r}" if strange else f"missing {sorted(needed - entries.keys())[0]!r}"
        raise InputError(f"{place}: {fault}")
    return kind(**{n: _read(hints[n], entry, f"{place}.{n}") for n, entry in entries.items() if n in fields})


def _finite_or_not(value: Any) -> Any:
    """Plain JSON with the numbers that JSON has no word for put back."""
    if isinstance(value, Mapping):
        return {key: _finite_or_not(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_or_not(entry) for entry in value]
    return float(value) if isinstance(value, str) and value in NOT_FINITE else value


def plain(value: Any) -> Any:
    """Turn results, arrays, tensors and nested containers into plain JSON types; NaN and infinity become strings."""
    if isinstance(value, Status):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_dict(value)
    return plain(value.tolist())  # type: ignore[union-attr]  # numpy and torch scalars and arrays
