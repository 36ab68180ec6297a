"""What people ask of a pair, in plain words: one call, one list of sentences."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from saddlegan import checks, files
from saddlegan.batch import Rows, conditions, samples, take
from saddlegan.certify.exact._judge import judge_exactly
from saddlegan.certify.search._judge import prepare
from saddlegan.certify.search._measure import Data, placed, read, seed_all, untouched
from saddlegan.checks import RandomState
from saddlegan.errors import InputError
from saddlegan.game import Game
from saddlegan.modules import clone, like, trainable
from saddlegan.results import Certificate, plain

ROWS = 512  # samples of either kind that distances are taken between
OTHERS = 2048  # rows of the data that distances are taken to at once
PERMUTATIONS = 200
DIFFERENT = 8.0  # energy distance, in its noise, beyond which samples differ: 1 in 10,000 at equal laws
FAR = 3.0  # the same for the distance from samples to the data, in units of that between data
STILL = "vanishing gradients"
ALIVE = 1e-6  # a gradient below this share of its tensor's own size moves nothing in any training


@dataclasses.dataclass(frozen=True, repr=False)
class Diagnosis:
    """What was found about a pair.

    Attributes:
        faults: names of what is wrong, worst first: "dead generator", "ignored latent", "collapsed",
            "missing modes", "far from the data", "memorising", "ignored labels", "saturated discriminator",
            "drifting offset", "vanishing gradients". Empty for a healthy pair.
        sentences: the findings in words, and what to change next.
        findings: every figure by name.
        certificates: verdicts by name, where some were asked for.
        samples: real and generated rows that were looked at, for the picture.
    """

    faults: tuple[str, ...]
    sentences: tuple[str, ...]
    findings: Mapping[str, float]
    certificates: Mapping[str, Certificate] = dataclasses.field(default_factory=dict)
    samples: tuple[Tensor, Tensor] | None = None

    def __repr__(self) -> str:
        return f"Diagnosis({', '.join(self.faults) or 'healthy'})"

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    def _repr_html_(self) -> str:
        words = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences)
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{figure:.4g}</td></tr>" for name, figure in self.findings.items()
        )
        rows += "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(found.verdict)}</td></tr>"
            for name, found in self.certificates.items()
        )
        return f"<ul>{words}</ul><table>{rows}</table>"

    def as_dict(self) -> dict[str, Any]:
        """Everything but the samples, in plain types, as a report keeps it.

        Example:
            >>> Diagnosis(("collapsed",), ("Found: collapsed.",), {"D on real": 0.5}).as_dict()["faults"]
            ['collapsed']
        """
        return {
            "faults": list(self.faults),
            "sentences": list(self.sentences),
            "findings": plain(self.findings),
            "certificates": plain(self.certificates),
        }

    def plot(self) -> Any:
        """Draw real beside generated rows on the real ones' two leading directions; returns a matplotlib figure."""
        from matplotlib.figure import Figure  # only where a picture is wanted

        if self.samples is None:
            raise InputError("this diagnosis holds no samples to draw")
        real, fake = (part.numpy() for part in self.samples)
        middle = real.mean(0)
        axes = np.linalg.svd(real - middle, full_matrices=False)[2][:2]
        figure = Figure(figsize=(5.0, 5.0), layout="constrained")
        ax = figure.subplots()
        for rows, name in ((real, "real"), (fake, "generated")):
            seen = (rows - middle) @ axes.T
            ax.scatter(seen[:, 0], seen[:, -1], s=6, alpha=0.6, label=name)
        ax.set_title(", ".join(self.faults) or "healthy")
        ax.legend()
        return figure

    def report(self, path: str | pathlib.Path) -> None:
        """Write the findings as one page that opens offline.

        Args:
            path: of the .html file.
        """
        head = "<!doctype html><html lang=en><meta charset=utf-8><title>Diagnosis</title>"
        style = "<style>body{font:16px/1.5 sans-serif;max-width:44em;margin:2em auto}td{padding:.1em 1em}</style>"
        title = html.escape(", ".join(self.faults) or "healthy")
        files.write(pathlib.Path(path), f"{head}{style}<h1>{title}</h1>{self._repr_html_()}</html>".encode())


def diagnose(
    game: Game,
    data: Data,
    *,
    certificates: Mapping[str, Certificate] | None = None,
    random_state: RandomState = 0,
) -> Diagnosis:
    """Say in plain words what is wrong with a pair, if anything, and what to change next.

    Looked at, in evaluation mode and on copies: who is winning; the spread of G(z) beside the data's own; real samples
    that no generated one is near; copies of the data; whether D separates so well that it has nothing to teach, or
    carries a constant that no Wasserstein value sees; whether G uses its latent and its conditions; whether either
    player still gets a gradient. Distances are Euclidean, in the data's own units, between at most 512 rows: for images
    that is a coarse measure. A threshold is a rule of thumb, not a proof; the figures are in `findings`.

    Args:
        game: the pair.
        data: real samples, or (x, *conditions) for a conditional game, see `nash`.
        certificates: verdicts at hand, by name, to be said with the rest.
        random_state: seed or generator.

    Returns:
        A `Diagnosis`.

    Raises:
        InputError: see `nash`; fewer than 32 samples, or samples of another shape than G's.

    Example:
        >>> from torch import nn
        >>> rng = torch.Generator().manual_seed(0)
        >>> G, D = nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 8), nn.Softplus(), nn.Linear(8, 1))
        >>> with torch.no_grad():
        ...     _ = G.weight.zero_()  # a generator that makes one point
        >>> diagnose(Game(G, D, latent=4), torch.randn(512, 2, generator=rng)).faults[0]
        'dead generator'
    """
    with untouched(data):
        generator = checks.generator(random_state)
        rows = read(data, game=game, rows=4096, generator=generator)
        X = samples(rows)
        if len(X) < 32:
            raise InputError(f"`data` has {len(X)} samples; a diagnosis needs at least 32")
        for name, player in (("G", game.G), ("D", game.D)):
            if not all(bool(p.isfinite().all()) for p in player.parameters()):
                raise InputError(f"`{name}` has NaN or infinite weights; diagnose an earlier checkpoint")
        seed_all(generator.initial_seed())
        seen = _Seen(game, rows, generator)
        figures = seen.samples() | seen.discriminator() | seen.gradients()
        faults = _faults(figures, game.objective.name)
        shown = seen.real[:ROWS].cpu(), seen.fake[:ROWS].cpu()
    if STILL in faults and _is_proved(game, data, certificates or {}):
        # where an equilibrium is proved, players stand still by right
        faults = tuple(name for name in faults if name != STILL)
    sentences = _sentences(figures, faults, certificates or {})
    return Diagnosis(faults, sentences, figures, dict(certificates or {}), shown)


def _is_proved(game: Game, data: Data, certificates: Mapping[str, Certificate]) -> bool:
    """Whether some equilibrium of the pair is proved: by a certificate at hand, or in closed form."""
    if any(found.verdict == "proved" for found in certificates.values()):
        return True
    with untouched(data), contextlib.suppress(InputError):  # what a certificate refuses is not proved
        exact = prepare(game, data, "`certify.diagnose`", search=None, random_state=0, exact=True).exact
        judged = None if exact is None else judge_exactly("stackelberg", exact, lam=0.0)
        return judged is not None and judged.verdict == "proved"
    return False


class _Seen:
    """Copies of the pair and what they make of one sample."""

    def __init__(self, game: Game, rows: Rows, generator: torch.Generator) -> None:
        X = samples(rows)
        self.G, self.D = clone(game.G).eval(), clone(game.D).eval()
        self.game, reference = game.replace(G=self.G, D=self.D), like(game.D)
        groups = game.rows_in_groups
        count = min(len(X), 2048) // groups * groups
        order = torch.randperm(len(X), generator=generator)[:count]
        # in the pair's own precision: a row is at distance 0 from itself, not at a rounding error
        self.all, self.rows = samples(placed(rows, reference)), placed(take(rows, order), reference)
        self.x, self.given = samples(self.rows), conditions(self.rows)
        self.z = self.game.sample_latent(count, generator)
        self.other = self.game.sample_latent(count, generator)
        with torch.no_grad():
            made = self.game.generate(self.z, self.given)
            if made.shape[1:] != X.shape[1:]:
                raise InputError(
                    f"`G` makes samples of shape {tuple(made.shape[1:])} but `data` has {tuple(X.shape[1:])}; a "
                    "diagnosis compares the two"
                )
            again = self.game.generate(self.other, self.given)
            turned = tuple(part[torch.randperm(len(part), generator=generator)] for part in self.given)
            relabelled = self.game.generate(self.z, turned) if self.given else made
        self.made = made
        self.real, self.fake, self.again, self.relabelled = (
            part.detach().flatten(1).double() for part in (self.x, made, again, relabelled)
        )

    def samples(self) -> dict[str, float]:
        """Spread, copies and coverage, in units of the data's own."""
        real, fake = self.real.cpu().numpy(), self.fake.cpu().numpy()
        half = min(len(real) // 2, ROWS)
        first, second, fakes = real[:half], real[half : 2 * half], fake[:half]
        spread = math.sqrt(float(real.var(0).sum())) or 1.0
        between, within = cdist(first, fakes), cdist(first, second)
        near = cdist(fakes, fakes) + np.diag([math.inf] * half)
        typical = cdist(first, first) + np.diag([math.inf] * half)
        # nearest copies: distance of fakes to *all* data beside that of real samples to the rest of it
        rest = self.all.flatten(1).double().cpu().numpy()
        to_data = _nearest(fakes, rest)
        own = _nearest(first, rest, beyond=1e-9 * spread)  # not the sample itself
        found = {
            "spread of G(z) / spread of data": math.sqrt(float(fake.var(0).sum())) / spread,
            "distance between samples / between data": _ratio(near.min(1), typical.min(1)),
            "distance to the data / between data": _ratio(to_data, own),
            # real rows whose nearest generated row is farther than real rows are from one another
            "data not covered": float((between.min(1) > 3.0 * np.quantile(within.min(1), 0.9)).mean()),
            # standard deviations above what exchanged labels give: around 0 at equal laws, with a tail to the right
            "energy distance / its noise": _energy(first, fakes),
            "response to the latent": _moved(self.fake, self.again) / spread,
        }
        if self.given:
            # a generator that uses its labels moves about as far as its spread when they are exchanged
            found["response to the labels"] = _moved(self.fake, self.relabelled) / spread
        return found

    def discriminator(self) -> dict[str, float]:
        """Raw outputs on both samples: separation, offset, size."""
        if self.game.has_own_value:
            return {}
        with torch.no_grad():
            batch = self.game.batch(self.rows, self.z, fake=self.made)
            real, fake = (_by_row(f(batch)) for f in (self.game._on_real, self.game._on_fake))
        spread = float(torch.cat([real - real.mean(), fake - fake.mean()]).std())
        spread += abs(float(real.mean() - fake.mean()))
        ranks = torch.searchsorted(fake.sort().values, real.contiguous())
        found = {
            "D on real": float(real.mean()),
            "D on generated": float(fake.mean()),
            "real ranked above generated": float(ranks.double().mean()) / len(fake),
            "offset of D / its spread": abs(float(torch.cat([real, fake]).mean())) / max(spread, 1e-300),
        }
        slope = self._slope(real, fake)
        return found if slope is None else found | {"slope of the value in D / at 0": slope}

    def _slope(self, real: Tensor, fake: Tensor) -> float | None:
        """Median slope of what either player descends where D's outputs lie, beside that at 0."""
        objective = self.game.objective
        if objective.pairing is not None:
            return None
        own, parts = objective.generator_loss, []
        with torch.enable_grad():
            for f, t in ((objective.f0, real), (objective.f1 if own is None else own, fake)):
                at = torch.cat([t, t.new_zeros(1)]).requires_grad_(True)
                at_link = at if f is own else objective.link(at)
                slope = torch.autograd.grad(f(at_link).sum(), at)[0].abs()
                parts.append(float(slope[:-1].median() / slope[-1].clamp_min(1e-300)))
        return max(parts)

    def gradients(self) -> dict[str, float]:
        """The largest gradient of each player's tensors, beside their own size, and D's slope in its input."""
        found: dict[str, float] = {}
        players = {"G": self.G, "D": self.D}
        with torch.enable_grad():
            losses = {
                "G": self.game.generator_loss(self.z, self.rows),
                "D": self.game.discriminator_loss(
                    self.rows, None if self.game.has_own_value else self.made.detach(), self.z
                ),
            }
            for name, player in players.items():
                own = trainable(player)
                if not own or not losses[name].requires_grad:
                    continue
                grads = torch.autograd.grad(losses[name], own, allow_unused=True, materialize_grads=True)
                value = 1.0 + abs(float(losses[name].detach()))
                norms = [(float(g.norm()), float(p.detach().norm())) for g, p in zip(grads, own, strict=True)]
                sizes = [g * max(p, 1e-12) / value for g, p in norms]
                found[f"gradient of {name}"] = max(sizes)
        return found


def _nearest(rows: np.ndarray, others: np.ndarray, *, beyond: float = -1.0) -> np.ndarray:
    """Distance of each row to the nearest of the others that is farther than `beyond`; the others come in blocks."""
    found = np.full(len(rows), math.inf)
    for start in range(0, len(others), OTHERS):
        distances = cdist(rows, others[start : start + OTHERS])
        distances[distances <= beyond] = math.inf
        np.minimum(found, distances.min(1), out=found)
    return found


def _ratio(a: np.ndarray, b: np.ndarray) -> float:
    """Median of distances to the nearest, of a beside b."""
    return float(np.median(a) / max(np.median(b), 1e-300))


def _energy(real: np.ndarray, fake: np.ndarray) -> float:
    """Energy distance of equally many rows, in standard deviations of its permutation distribution."""
    distances = cdist(np.concatenate([real, fake]), np.concatenate([real, fake]))
    signs = np.repeat([1.0, -1.0], [len(real), len(fake)])
    shuffled = np.random.default_rng(0).permuted(np.tile(signs, (PERMUTATIONS, 1)), axis=1).T
    # of equal halves the energy distance is -s^T D s up to a constant
    observed = -float(signs @ distances @ signs)
    chance = -np.einsum("nk,nk->k", shuffled, distances @ shuffled)
    return (observed - float(chance.mean())) / max(float(chance.std()), 1e-300)


def _off_diagonal(distances: np.ndarray) -> float:
    """Mean of a square matrix whose diagonal is infinite, without it."""
    return float(distances[np.isfinite(distances)].mean())


def _by_row(raw: Tensor) -> Tensor:
    """One number a row or group: patch maps are averaged."""
    return raw.double().reshape(len(raw), -1).mean(1)


def _moved(a: Tensor, b: Tensor) -> float:
    return math.sqrt(float((a - b).square().sum(1).mean()) / 2.0)


def _faults(f: Mapping[str, float], objective: str) -> tuple[str, ...]:
    found: list[str] = []
    dead = f["spread of G(z) / spread of data"] < 1e-3
    if dead:
        found.append("dead generator")
    elif f["response to the latent"] < 0.02:
        found.append("ignored latent")
    saturated = f.get("slope of the value in D / at 0", 1.0) < 0.02
    perfect = f.get("real ranked above generated", 0.5) > 0.999
    if saturated and perfect:
        found.append("saturated discriminator")
    if not dead:
        # in many dimensions the mean of the data is near every row, so that one picture leaves nothing uncovered
        alike = f["distance between samples / between data"] < 0.25 and f["energy distance / its noise"] > 5.0
        if f["spread of G(z) / spread of data"] < 0.25 and (alike or f["data not covered"] > 0.3):
            found.append("collapsed")
        elif f["data not covered"] > 0.95:
            if not found:  # a saturated discriminator says as much
                found.append("far from the data")
        elif f["data not covered"] > 0.25:
            found.append("missing modes")
        if f["distance to the data / between data"] < 0.1:
            found.append("memorising")
    if f.get("response to the labels", 1.0) < 0.02:
        found.append("ignored labels")
    if objective == "wasserstein" and f.get("offset of D / its spread", 0.0) > 10.0:
        found.append("drifting offset")
    # at an equilibrium gradients vanish by right: only where the samples still differ is it a fault
    still = f.get("gradient of G", 1.0) < ALIVE
    blind = f.get("gradient of D", 1.0) < ALIVE and f.get("real ranked above generated", 0.5) < 0.75
    different = f["energy distance / its noise"] > DIFFERENT or f["distance to the data / between data"] > FAR
    if different and (still or blind) and not saturated and not dead:
        found.append(STILL)
    return tuple(found)


_ADVICE = {
    "dead generator": "G makes one and the same sample whatever z is. Look for a zeroed or dead last layer; start G "
    "again with a smaller learning rate.",
    "ignored latent": "G hardly answers to z: its samples vary by something else. Check that z reaches the first "
    "layer, and its scale.",
    "saturated discriminator": "D tells every sample apart and the value is flat where its outputs lie: G gets no "
    "gradient. Weaken D (R1 penalty, fewer steps, instance noise) or start both again.",
    "collapsed": "Collapse: the samples spread over a small part of the data. Try train.PrimalDual, a packed or "
    "regularised D, or a pairing objective.",
    "missing modes": "Part of the data has no generated sample near it: modes are missing. Try train.PrimalDual or a "
    "packed D (rows_in_groups).",
    "far from the data": "No generated sample is near any of the data: G has not learned where the data are. Train on, "
    "and check the scale and order of the data's columns.",
    "memorising": "Generated samples sit on rows of the data, nearer than the data's rows are to one another: G "
    "memorises. Use more data, augmentation, or a smaller G.",
    "ignored labels": "G makes the same sample whatever the label is. Check that D sees the labels, and that they "
    "reach G's first layer.",
    "drifting offset": "D carries a constant much larger than what it tells apart. A Wasserstein value does not see "
    "it, and precision is lost: add a small penalty on D's mean output.",
    STILL: "A player gets no gradient to speak of: it stands still without being at an optimum. Look "
    "for saturated activations or scales that vanish.",
}


def _sentences(
    f: Mapping[str, float], faults: tuple[str, ...], certificates: Mapping[str, Certificate]
) -> tuple[str, ...]:
    apart = f["energy distance / its noise"]
    if faults:
        said = [f"Found: {', '.join(faults)}."]
    elif apart > DIFFERENT:
        said = [
            "None of the known faults, but the samples are plainly told from the data: their energy distance is "
            f"{apart:.0f} times what chance makes of it. Train on."
        ]
    else:
        said = ["No fault was found."]
    ranked = f.get("real ranked above generated")
    if ranked is not None:
        side = "D is winning" if ranked > 0.75 else "G is winning" if ranked < 0.4 else "neither player is far ahead"
        said.append(f"D ranks a real sample above a generated one in {100 * ranked:.0f}% of cases: {side}.")
    said.append(
        f"G(z) spreads over {100 * f['spread of G(z) / spread of data']:.0f}% of the data's width; "
        f"{100 * f['data not covered']:.0f}% of the data have no sample near."
    )
    said += [_ADVICE[name] for name in faults]
    said += [f"{name}: {found.verdict}, gap {found.gap:.3g}." for name, found in certificates.items()]
    if not faults:
        said.append("Next: certify.nash or certify.proximal says how much either player could still gain.")
    return tuple(said)
