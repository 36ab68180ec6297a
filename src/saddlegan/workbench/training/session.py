"""A training session: the pair, the rule and every random source, built from a recipe and brought back from a state."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from saddlegan import networks, train
from saddlegan.errors import InputError
from saddlegan.game import Game
from saddlegan.modules import like
from saddlegan.results import Step
from saddlegan.workbench.data.sources import Data
from saddlegan.workbench.runs import checkpoints, players
from saddlegan.workbench.runs.config import LatentSpec, RunConfig
from saddlegan.workbench.runs.shapes import sample_shape, to_rows, to_samples
from saddlegan.workbench.training.place import HERE, Place
from saddlegan.workbench.training.recipe import Recipe

FIGURES = ("value", "generator_loss", "discriminator_loss", "density_term")  # of a step
SCALE_ELEMENTS = 1 << 21  # numbers looked at together
COLLAPSE_STEPS = 400  # of the regression onto the first modes
PRETRAINING_STEPS = 200  # of D against the collapsed G
STREAMS = ("data", "latents", "noise")  # one generator each, so that none disturbs another


@dataclasses.dataclass(frozen=True)
class Scale:
    """Samples in data units are `scale * G(z) + offset`."""

    scale: float
    offset: float


class Session:
    """Everything that a run holds in memory, one step after the other.

    Args:
        recipe: the options.
        data: the real samples.
        game: the pair of one's own that `recipe.network` names; its players train as they are, in the data's units.
        place: the device, and the processes that share each batch. All draw the same numbers and take their own part.

    Attributes:
        recipe: the options.
        place: where it computes.
        scale: between the data's units and the networks'.
        single_latent: draws the latents of one seed, from any source.
        rule: the training rule, over one pair or over replicas.
        average: the generator's moving average.
    """

    def __init__(self, recipe: Recipe, data: Data, *, game: Game | None = None, place: Place = HERE) -> None:
        if place.size > 1 and (recipe.seeds > 1 or recipe.batch % place.size):
            raise InputError(
                f"{place.size} processes share one pair and each batch: `seeds` must be 1 and `batch` a multiple of "
                f"{place.size}, got {recipe.seeds} and {recipe.batch}"
            )
        self.recipe, self.place = recipe, place
        self.scale = scale_of(data) if game is None else Scale(1.0, 0.0)
        self._image_shape = data.image_shape
        self._X = data.X  # rows are scaled as they are drawn, so that memmaps stay on disk
        seeds = range(recipe.seed, recipe.seed + recipe.seeds)
        self._sources = {
            stream: [torch.Generator().manual_seed(_mixed(seed, number)) for seed in seeds]
            for number, stream in enumerate(STREAMS)
        }
        pairs = [make_pair(recipe, data, seed) for seed in seeds] if game is None else [(game.G, game.D)]
        for pair in pairs:
            for player in pair:
                player.to(place.device)
        self._dtype = like(pairs[0][0]).dtype
        self.single_latent = train.MixedLatent(recipe.bits, recipe.gaussians, dtype=self._dtype)
        single = recipe.seeds == 1
        self.latent = train.ReplicaLatent(self.single_latent, self._sources["latents"])
        self._G = pairs[0][0] if single else train.Replicas([G for G, _ in pairs])
        self._D = pairs[0][1] if single else train.Replicas([D for _, D in pairs])
        self._noise = train.InstanceNoise(
            self._D,
            sd=recipe.noise_at(0),
            generators=tuple(self._sources["noise"]),
            share=(place.rank, place.size),
        )
        self._r1 = train.R1(recipe.r1_at(0))
        penalties = [] if game is None or game.discriminator_penalty is None else [game.discriminator_penalty]
        if recipe.r1 > 0:
            penalties.append(self._r1)
        self._penalty = penalties[0] if len(penalties) == 1 else train.Penalties(*penalties) if penalties else None
        played = Game(
            self._G,
            self._noise,
            objective=recipe.objective,
            latent=self.latent,
            discriminator_penalty=self._penalty,
        )
        self._shape = (data.X.shape[1],) if game is None else sample_shape(game)
        betas = (recipe.beta1, recipe.beta2)
        self._opt_G = torch.optim.Adam(self._G.parameters(), recipe.lr_generator, betas=betas, fused=True)
        self._opt_D = torch.optim.Adam(self._noise.parameters(), recipe.lr_discriminator, betas=betas, fused=True)
        if recipe.start != "random":
            self._collapse(data, int(recipe.start.partition(":")[2]))
        self.rule = make_rule(recipe, played, self._opt_G, self._opt_D, group=place.group)
        self.rule.on_nonfinite = "skip"  # the loop ends the run at a loss that is not finite
        self.average = train.MovingAverage(self._G, decay=recipe.average_decay())
        self._figures: list[tuple[float, ...]] = []

    @property
    def steps_done(self) -> int:
        """Number of steps since the start, over all resumes."""
        return self.rule.steps_done

    def step(self) -> Step:
        """Set this step's schedules, draw a batch and move both players."""
        t = self.steps_done
        factor = self.recipe.learning_rate_factor(t)
        for optimizer, rate in ((self._opt_G, self.recipe.lr_generator), (self._opt_D, self.recipe.lr_discriminator)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        self._noise.sd = self.recipe.noise_at(t)
        self._r1.weight = self.recipe.r1_at(t)
        half = self.recipe.amp == "bf16"
        with torch.autocast(self.place.device.type, dtype=torch.bfloat16) if half else contextlib.nullcontext():
            step = self.rule.step(self._batch())
        self.average.update()
        self._figures.append(tuple(figures_of(step).values()))
        return step

    def take_means(self) -> dict[str, float]:
        """Mean value and losses since the last call; kept in checkpoints, so that a resume changes no line."""
        width = len(self._figures[-1])  # a checkpoint of an older version may hold narrower lines
        columns = zip(*(line for line in self._figures if len(line) == width), strict=True)
        means = {name: math.fsum(column) / len(column) for name, column in zip(FIGURES, columns, strict=False)}
        self._figures = []
        return means

    def _batch(self) -> Tensor:
        """One batch for each seed, drawn with replacement; as many again for each move of a critic.

        Of several processes each takes its own part of every batch.
        """
        rounds = self.recipe.n_critic if self.recipe.rule == "alternating" else 1
        chosen = [
            torch.randint(len(self._X), (self.recipe.batch,), generator=source).chunk(self.place.size)[self.place.rank]
            for _ in range(rounds)
            for source in self._sources["data"]
        ]
        return self.rows(self._X[torch.cat(chosen).numpy()])

    def rows(self, X: np.ndarray) -> Tensor:
        """Rows (n, d) in data units as the players see them."""
        scaled = (np.asarray(X, dtype=np.float64) - self.scale.offset) / self.scale.scale
        return to_samples(torch.from_numpy(scaled).to(self._dtype), self._shape, self._image_shape).to(
            self.place.device
        )

    def generators(self) -> list[nn.Module]:
        """The averaged generator of each seed, in evaluation mode."""
        module = self.average.module
        return [m.eval() for m in module.unstack()] if isinstance(module, train.Replicas) else [module]

    def discriminators(self) -> list[nn.Module]:
        """The discriminator of each seed, without the instance noise."""
        return self._D.unstack() if isinstance(self._D, train.Replicas) else [self._D]

    @torch.no_grad()
    def samples(self, n: int, *, seed: int) -> list[np.ndarray]:
        """N samples (n, d) in data units from each seed's averaged generator; training's own sources are untouched."""
        z = self.single_latent(n, torch.Generator().manual_seed(seed)).to(self.place.device)
        drawn = [
            torch.cat([to_rows(G(block), self._image_shape) for block in z.split(1024)]) for G in self.generators()
        ]
        return [(rows.cpu() * self.scale.scale + self.scale.offset).numpy() for rows in drawn]

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""
        return {
            "rule": self.rule.state_dict(),
            "average": self.average.state_dict(),
            "sources": {name: [s.get_state() for s in sources] for name, sources in self._sources.items()},
            "global": checkpoints.random_state(),
            "figures": self._figures,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state; the next steps have the same bits."""
        self.rule.load_state_dict(state["rule"])
        self.average.load_state_dict(state["average"])
        for name, sources in self._sources.items():
            for source, saved in zip(sources, state["sources"][name], strict=True):
                source.set_state(saved)
        checkpoints.set_random_state(state["global"])
        self._figures = list(state["figures"])

    def _collapse(self, data: Data, count: int) -> None:
        """Regress G onto the first `count` modes and train D against it: the start of a recovery test."""
        if data.centers is None or not 1 <= count <= len(data.centers):
            raise InputError(f"`start` collapsed:{count} needs data with at least {count} known modes")
        centers = self.rows(data.centers[:count])
        opt_G = torch.optim.Adam(self._G.parameters(), 1e-3)
        opt_D = torch.optim.Adam(self._D.parameters(), 1e-3, betas=(0.5, 0.999))
        n = self.recipe.batch * self.recipe.seeds
        game = Game(self._G, self._noise, objective="vanilla", latent=self.latent, discriminator_penalty=self._penalty)
        for _ in range(COLLAPSE_STEPS):
            z = self.latent(n).to(self.place.device)
            # the last latent coordinate's sign, or its quantile, says which mode
            place = (0.5 * (1 + torch.erf(z[:, -1] / 2**0.5)) * count).long().clamp(0, count - 1)
            opt_G.zero_grad()
            (self._G(z) - centers[place]).square().mean().mul(self.recipe.seeds).backward()
            opt_G.step()
        for _ in range(PRETRAINING_STEPS):
            with torch.no_grad():
                fake = self._G(self.latent(n).to(self.place.device))
            opt_D.zero_grad()
            rows = self._batch()[:n]
            game.discriminator_loss(rows, fake).backward()
            opt_D.step()


def figures_of(step: Step) -> dict[str, float]:
    """What a line of metrics says of a step: a density term stands apart from the loss that the players share."""
    term = step.stats.get("density_loss")
    figures = (step.value, step.generator_loss - (term or 0.0), step.discriminator_loss)
    return dict(zip(FIGURES, figures if term is None else (*figures, term), strict=False))


def make_pair(recipe: Recipe, data: Data, seed: int) -> tuple[nn.Module, nn.Module]:
    """One seed's fresh G and D; torch's global generator is put back afterwards."""
    n_latent, d = recipe.bits + recipe.gaussians, data.X.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_mixed(seed, len(STREAMS)))
        if recipe.network == "mlp":
            G = networks.MLP(n_latent, d, hidden=recipe.hidden)
            next(G.parameters()).data[:, recipe.bits :] *= recipe.gaussian_gain
            fourier = recipe.fourier if len(recipe.fourier) == 2 else sum(recipe.fourier)  # of none or one
            return G, networks.MLP(d, 1, hidden=recipe.hidden, activation=recipe.activation, fourier=fourier)
        if data.image_shape is None or len(recipe.hidden) != 1:
            raise InputError("`network` image needs square images and one width in `hidden`")
        size, channels = data.image_shape[0], (*data.image_shape, 1)[2]
        return (
            networks.ImageGenerator(n_latent, size=size, channels=channels, width=recipe.hidden[0]),
            networks.ImageDiscriminator(
                size=size, channels=channels, width=recipe.hidden[0], activation=recipe.activation
            ),
        )


def make_rule(
    recipe: Recipe,
    game: Game,
    opt_G: torch.optim.Optimizer,
    opt_D: torch.optim.Optimizer,
    *,
    group: ProcessGroup | None = None,
) -> train.AbstractRule:
    """The rule that the recipe names, with the options that the rule says are its own, over any number of replicas."""
    rule = train.RULES[recipe.rule]
    given = {argument: getattr(recipe, word) for word, argument in rule.options.items()}
    if "points" in given and "seeds" not in rule.options and given["points"] is not None:
        given["points"] *= recipe.seeds  # taken from all replicas' rows together
    make: Callable[..., train.AbstractRule] = rule  # each rule has arguments of its own
    return make(game, opt_G, opt_D, group=group, **given)


def scale_of(data: Data) -> Scale:
    """Images to [-1, 1]; other data to mean 0 and standard deviation 1 over all columns together."""
    if data.value_range is not None:
        low, high = data.value_range
        return Scale(0.5 * (high - low) or 1.0, 0.5 * (high + low))
    # by blocks, about the mean of the first: a memory map stays on disk, and nothing cancels
    total = squares = 0.0
    step = max(1, SCALE_ELEMENTS // data.X.shape[1])
    shift = np.asarray(data.X[:step], dtype=np.float64).mean(0)
    for start in range(0, len(data.X), step):
        rows = np.asarray(data.X[start : start + step], dtype=np.float64) - shift
        total, squares = total + rows.sum(0), squares + np.square(rows).sum(0)
    mean = total / len(data.X)
    variance = np.maximum(0.0, squares / len(data.X) - mean**2)
    return Scale(float(np.sqrt(variance.mean())) or 1.0, float((mean + shift).mean()))


def config_of(session: Session, data: Data, *, command_line: str) -> RunConfig:
    """What `config.json` keeps of a session."""
    recipe = session.recipe
    options = json.loads(recipe.model_dump_json())
    return RunConfig(
        command="train",
        model=recipe.rule,
        objective=recipe.objective,
        data=data.spec,
        latent=LatentSpec(
            kind="mixed" if recipe.bits else "gaussian",
            size=recipe.bits + recipe.gaussians,
            options={"bits": recipe.bits} if recipe.bits else {},
        ),
        generator=players.network_spec(session.generators()[0]),
        discriminator=players.network_spec(session.discriminators()[0]),
        seed=recipe.seed,
        sample_scale=session.scale.scale,
        sample_offset=session.scale.offset,
        options=options,
        command_line=command_line,
    )


def _mixed(seed: int, stream: int) -> int:
    """A generator's seed for one stream of one run: neighbouring seeds and streams share no numbers."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0] >> np.uint64(1))
