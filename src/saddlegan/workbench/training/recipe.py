"""What a training run is made of: its options, validated.

Each field is an option of `saddlegan train`. Nothing here waits for torch, so that a wrong option is answered at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from saddlegan.errors import InputError
from saddlegan.workbench.terminal import source

if TYPE_CHECKING:
    from saddlegan.workbench.data.sources import Data

DEFAULT_RULE = "alternating"  # on mixtures as sharp as any, and the cheapest; see docs/how-to-choose.md


NETWORKS = ("mlp", "image")  # the pairs that training makes itself
# a pair of one's own brings them
OF_THE_GAME = ("objective", "hidden", "activation", "fourier", "bits", "gaussians", "gaussian_gain")

LEAST_LINES = 9  # of metrics in a run after that of step 0: fewer points are no curve, and each costs most of a step


class Recipe(BaseModel):
    """Every number that a run depends on beside its data; `config.json` keeps it under `options`.

    Lengths (noise, bandwidths) are in units of the data's standard deviation. Schedules are functions of the step
    alone, so that a resumed run needs no more than the number of steps done.

    Attributes:
        rule: the training rule.
        objective: what both losses are made of: vanilla, non-saturating, wasserstein, hinge, kl and others.
        steps: of the whole run, counted from its start; a resumed run goes on to it.
        batch: real samples per step.
        seed: first seed; replica r uses seed + r.
        seeds: replicas trained at once.
        network: mlp, image (the convolutional pair), or MODULE:FUNCTION, which makes a Game of your own.
        hidden: widths of the MLPs' hidden layers, or the convolutional pair's width as its only entry.
        activation: of the discriminator: leaky-relu, or a smooth one such as softplus, which certificates like.
        fourier: random Fourier features before D's first layer, in units of 1 / standard deviation: two numbers are the
            shortest and longest frequency of `MultiscaleFeatures`, one is the scale of `FourierFeatures`, 0 is none.
        bits: signs in the latent.
        gaussians: Gaussian coordinates in the latent.
        gaussian_gain: factor of the MLP generator's first weights on the Gaussian coordinates. Small ones leave it to
            the signs which mode a sample belongs to, and the Gaussians spread it within.
        lr_generator: Adam's learning rate for G.
        lr_discriminator: Adam's learning rate for D.
        beta1: Adam's first decay.
        beta2: Adam's second decay.
        hold: share of the steps with full learning rate; it then falls linearly to 0.
        average: decay of the generator's moving average, which is what gets sampled; if None it remembers a tenth of
            the run, at most a thousand steps.
        r1: weight of R1 once the noise has shrunk to `noise_end`. Under noise f times as large the discriminator's
            slopes are f times smaller where they matter, so the weight is f^2 times as large.
        r1_every: R1 is applied every so many steps, that many times as strong.
        noise: instance noise at the start.
        noise_end: instance noise at the end of its share.
        noise_share: share of the steps over which noise shrinks geometrically; 0 for no noise at all.
        weight: weight of the primal-dual term.
        bandwidths: kernel widths of the primal-dual densities.
        points: real samples at which densities or proximal terms are taken.
        lam: weight of the proximal term, of the rule and of the certificates along the way.
        norm: distance of the proximal term.
        inner_steps: ascents of the proximal rule, or unrolled steps.
        inner_length: length of an unrolled step (on the grid 0.01 was too long, and G was lost).
        persistent: whether the proximal rule keeps D' from step to step, its single-loop form.
        n_critic: moves of D per step of the alternating rule.
        amp: "bf16" runs the players in bfloat16 where torch.autocast trusts it; losses and slopes stay in float32.
        start: "random", or "collapsed:K": G first regressed onto K modes, D trained against it.
        metrics_every: steps between two lines of metrics; fewer in a run that would have less than ten lines.
        checkpoint_every: steps between two checkpoints.
        keep: checkpoints kept.
        certify_every: steps between two measurements of the proximal duality gap, at `lam` and in `norm`; the untrained
            pair and the last step are measured too. 0: never.
        certify_steps: search steps of one measurement.
        certify_objective: zero-sum value to judge by; if None the objective itself, or its zero-sum twin.
        stop_below: stop once a settled gap, what its searches still added and twice its standard error are together
            below this number; never if None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str = DEFAULT_RULE
    objective: str = "non-saturating"
    steps: int = Field(12_000, ge=1)
    batch: int = Field(256, ge=2)
    seed: int = Field(0, ge=0, lt=2**32)
    seeds: int = Field(1, ge=1, le=1000)
    network: str = "mlp"
    hidden: tuple[int, ...] = (128, 128, 128)
    activation: str = "leaky-relu"
    fourier: tuple[float, ...] = ()
    bits: int = Field(10, ge=0)
    gaussians: int = Field(2, ge=0)
    gaussian_gain: float = Field(1.0, ge=0, allow_inf_nan=False)
    lr_generator: float = Field(3e-4, gt=0, allow_inf_nan=False)
    lr_discriminator: float = Field(1e-3, gt=0, allow_inf_nan=False)
    beta1: float = Field(0.5, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    hold: float = Field(0.25, ge=0, le=1)
    average: float | None = Field(None, ge=0, lt=1)
    r1: float = Field(5e-4, ge=0, allow_inf_nan=False)
    r1_every: int = Field(1, ge=1)
    noise: float = Field(0.3, ge=0, allow_inf_nan=False)
    noise_end: float = Field(0.01, gt=0, allow_inf_nan=False)
    noise_share: float = Field(0.6, ge=0, le=1)
    weight: float = Field(120.0, ge=0, allow_inf_nan=False)
    bandwidths: tuple[float, ...] = (0.15, 0.35, 0.7)
    points: int | None = Field(128, ge=1)
    lam: float = Field(1.0, ge=0, allow_inf_nan=False)
    norm: Literal["sobolev", "l2", "parameters"] = "sobolev"
    inner_steps: int = Field(1, ge=0)
    inner_length: float = Field(1e-3, ge=0, allow_inf_nan=False)
    persistent: bool = True
    n_critic: int = Field(1, ge=1)
    amp: Literal["none", "bf16"] = "none"
    start: str = "random"
    metrics_every: int = Field(500, ge=1)
    checkpoint_every: int = Field(1000, ge=1)
    keep: int = Field(2, ge=1)
    certify_every: int = Field(0, ge=0)
    certify_steps: int = Field(100, ge=1)
    certify_objective: str | None = None
    stop_below: float | None = Field(None, allow_inf_nan=False)

    @field_validator("rule")
    @classmethod
    def _known(cls, rule: str) -> str:
        rules = source.names("saddlegan.train", "RULES")
        if rule not in rules:
            raise ValueError(f"must be one of {', '.join(rules)}")
        return rule

    @field_validator("start")
    @classmethod
    def _begun(cls, start: str) -> str:
        if re.fullmatch(r"random|collapsed:[1-9]\d*", start) is None:
            raise ValueError("must be random or collapsed:NUMBER, such as collapsed:1")
        return start

    @field_validator("network")
    @classmethod
    def _named(cls, network: str) -> str:
        parts = re.split("[.:]", network)
        if network not in NETWORKS and not (network.count(":") == 1 and all(part.isidentifier() for part in parts)):
            raise ValueError(f"must be one of {', '.join(NETWORKS)}, or MODULE:FUNCTION that makes a Game")
        return network

    @field_validator("hidden")
    @classmethod
    def _widths(cls, hidden: tuple[int, ...]) -> tuple[int, ...]:
        if hidden and min(hidden) < 1:
            raise ValueError("must be whole numbers of at least 1 with commas between")
        return hidden

    @field_validator("fourier", mode="before")
    @classmethod
    def _several(cls, fourier: object) -> object:
        parts = fourier if isinstance(fourier, (list, tuple)) else [fourier]
        return () if len(parts) == 1 and parts[0] in (0, 0.0, "0", "0.0") else parts

    @field_validator("fourier")
    @classmethod
    def _scales(cls, fourier: tuple[float, ...]) -> tuple[float, ...]:
        if len(fourier) > 2 or any(not 0 < entry < math.inf for entry in fourier) or sorted(set(fourier)) != [*fourier]:
            raise ValueError("must be 0, a positive number, or two positive numbers in ascending order")
        return fourier

    @field_validator("objective", "certify_objective")
    @classmethod
    def _listed(cls, objective: str | None) -> str | None:
        known = source.objectives()
        if objective is not None and objective.lower().replace("_", "-") not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return objective

    @property
    def own(self) -> bool:
        """Whether the pair is one of the user's own."""
        return self.network not in NETWORKS

    def certified_after(self, done: int) -> bool:
        """Whether the proximal duality gap is measured after so many steps."""
        return self.certify_every > 0 and (done % self.certify_every == 0 or done == self.steps)

    def measured_after(self, done: int) -> bool:
        """Whether a line of metrics is written after so many steps."""
        every = min(self.metrics_every, max(1, self.steps // LEAST_LINES))
        # where lines are closer than was asked for, the last stands for those just before it
        last = every < self.metrics_every and self.steps - done < every
        return (done % every == 0 and not last) or done == self.steps or self.certified_after(done)

    def learning_rate_factor(self, t: int) -> float:
        """Factor of both learning rates in step t: 1 for the first share `hold`, then linearly to 0."""
        done = t / self.steps
        return 1.0 if done <= self.hold else (1.0 - done) / (1.0 - self.hold)

    def average_decay(self) -> float:
        """Decay of the generator's moving average."""
        return max(0.0, min(0.999, 1.0 - 10.0 / self.steps)) if self.average is None else self.average

    def noise_at(self, t: int) -> float:
        """Standard deviation of the instance noise in step t."""
        if self.noise_share == 0.0 or self.noise == 0.0:
            return 0.0
        return self.noise * (self.noise_end / self.noise) ** min(1.0, t / self.steps / self.noise_share)

    def r1_at(self, t: int) -> float:
        """Weight of R1 in step t."""
        if t % self.r1_every != 0:
            return 0.0
        noise = self.noise_at(t)
        return self.r1 * self.r1_every * (noise / self.noise_end if noise > 0.0 else 1.0) ** 2

    def other_schedules(self, other: Recipe, done: int) -> list[str]:
        """Names of the schedules that differ in the first `done` steps between this recipe and another."""
        schedules = {
            "learning rate": Recipe.learning_rate_factor,
            "instance noise": Recipe.noise_at,
            "R1 weight": Recipe.r1_at,
        }
        found = [
            name for name, at in schedules.items() if any(at(self, step) != at(other, step) for step in range(done))
        ]
        return found if self.average_decay() == other.average_decay() or done == 0 else [*found, "moving average"]


def make_recipe(**options: Any) -> Recipe:
    """Build a recipe, turning a wrong value into an `InputError` that names the option.

    Raises:
        InputError: an option is out of range or unknown.
    """
    try:
        recipe = Recipe(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise InputError(
                f"{name} is no option of the recipe: must be one of {', '.join(Recipe.model_fields)}, got {name!r}"
            ) from error
        said = first["msg"].removeprefix("Value error, ")
        if not said.startswith("must"):
            said = _expected(name)
        given, default = options[name], Recipe.model_fields[name].default
        shown = ",".join(map(str, given)) if isinstance(given, (list, tuple)) else given
        other = "" if default in (None, ()) else f"; leave it out for {_plainly(default)}"
        raise InputError(f"`{name}` {said}, got {shown!r}{other}") from error
    if recipe.certify_every == 0 and (recipe.stop_below is not None or recipe.certify_objective is not None):
        name = "stop_below" if recipe.stop_below is not None else "certify_objective"
        raise InputError(f"`{name}` needs `certify_every`: without it no gap is measured")
    if recipe.own and recipe.seeds > 1:
        raise InputError(f"`seeds` must be 1 with a pair of your own: run {recipe.network} once for each --seed")
    if recipe.fourier and recipe.network != "mlp":
        raise InputError("`fourier` belongs to `network` mlp")
    if recipe.gaussian_gain != 1.0 and recipe.network != "mlp":
        raise InputError("`gaussian_gain` belongs to `network` mlp")
    if recipe.bits + recipe.gaussians == 0:
        raise InputError("`bits` and `gaussians` are both 0; a latent needs at least one coordinate")
    return recipe


def _expected(name: str) -> str:
    """What an option must be, in the words that the command line uses for every number."""
    field = next(each for each in source.fields("saddlegan.workbench.training.recipe", "Recipe") if each.name == name)
    kind = field.kind.removesuffix(" | None")
    if kind.startswith("Literal["):
        return f"must be one of {', '.join(re.findall(r'[a-z0-9]+', kind.removeprefix('Literal')))}"
    if kind.startswith("tuple["):
        return f"must be {'whole ' if 'int' in kind else ''}numbers with commas between"
    if kind in ("int", "float"):
        return f"must be {field.range.words(whole=kind == 'int')}"
    return "must be true or false" if kind == "bool" else "must be a word"


def _plainly(default: Any) -> str:
    words = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return words.lower() if isinstance(default, bool) else words


def read_settings(words: Iterable[str]) -> dict[str, Any]:
    """Read `--set NAME=VALUE`: numbers, true or false, words, and several values with commas.

    Raises:
        InputError: not NAME=VALUE.

    Example:
        >>> read_settings(["noise=0.1", "hidden=64,64", "persistent=false"])
        {'noise': '0.1', 'hidden': ['64', '64'], 'persistent': 'false'}
    """
    found: dict[str, Any] = {}
    for word in words:
        name, mark, value = word.partition("=")
        if not mark or not name:
            raise InputError(f"`set` must read NAME=VALUE, such as noise=0.1, got {word!r}")
        field = Recipe.model_fields.get(name)
        several = field is not None and get_origin(field.annotation) is tuple
        found[name] = [part for part in value.split(",") if part] if several else value
    return found


# The start of a recovery test: see `defaults_for`. The same for every rule.
COLLAPSED: dict[str, Any] = {
    "bits": 0,
    "gaussians": 4,
    "fourier": (3.0,),
    "lr_generator": 1e-3,
    "hold": 1.0,
    "noise": 0.05,
    "noise_end": 0.05,
    "average": 0.9,
    "steps": 1000,
    "metrics_every": 100,
}

# In so few dimensions D gets frequencies of every size from the data's own spread to a sixteenth of it: what holds a
# hundred modes is the discriminator's resolution, not the rule. Features of one scale are knife-edged (3 holds a
# hundred modes, 5 none); of several, (1, 8), (1, 16) and (0.5, 32) all hold 99 or 100.
PLANE = 3
SCALES = (1.0, 16.0)

# What a hundred modes then miss is speed: noise that shrinks faster than the players follow leaves samples between the
# modes and shares unequal. So the rates are larger and fall from the first step on, and the noise takes longer. Slopes
# grow a thousandfold as the noise shrinks, which Adam's second moment must follow. Gaussians that start small leave
# the choice of the mode to the signs. Half the rows and a quarter of the penalties pay for half as many steps again,
# which did as well or better. See docs/training.md for what each is worth. No other rule was tried at them.
QUICK: dict[str, Any] = {
    "gaussian_gain": 0.1,
    "lr_generator": 6e-4,
    "lr_discriminator": 3e-3,
    "beta2": 0.99,
    "hold": 0.0,
    "noise_share": 0.7,
    "batch": 128,
    "r1_every": 4,
    "steps": 10_000,
}
# what they replace, for comparisons that were made with it
STEADY: dict[str, Any] = {name: Recipe.model_fields[name].default for name in QUICK}

# Up to so many modes half the width does as well; at 25 modes it costs some sharpness.
FEW_MODES = 10


# A pair of one's own is trained as it is: no noise, no penalty but its own, rates that do not fall.
OWN: dict[str, Any] = {
    "batch": 64,
    "steps": 3000,
    "noise_share": 0.0,
    "r1": 0.0,
    "hold": 1.0,
    "lr_generator": 2e-4,
    "lr_discriminator": 2e-4,
    "points": 16,
}


def defaults_for(data: Data, rule: str, start: str = "random") -> dict[str, Any]:
    """The options that suit data of this kind, to be overridden by the user's.

    A collapsed start is a test of recovery, and made hard: Gaussian latents only, since signs would pull modes apart
    by themselves, and a discriminator that is local, so that its slope at the mode where all samples are says nothing
    of the modes where none are. With a smooth one plain training finds its way out as well.
    """
    image = data.image_shape
    if image is not None:
        side = max(image[0], image[1])
        found: dict[str, Any] = {
            "network": "image" if image[0] == image[1] and side in (8, 16, 28, 32, 64) else "mlp",
            "hidden": (32,),
            "activation": "softplus",
            "batch": 64,
            "bits": 0,
            "gaussians": 64,
            "steps": 3000,
            "noise_share": 0.0,
            "r1": 0.0,
            "points": 16,
            "lr_generator": 1e-3,
            "weight": 40.0,
            "hold": 1.0,
            "bandwidths": (2.0, 4.0, 8.0),
        }
        if found["network"] == "mlp":
            found["hidden"] = (256, 256)
        return found
    found = dict(COLLAPSED) if start != "random" else {}
    if data.centers is None:
        found["gaussians"] = max(2, min(16, data.X.shape[1]))
    elif start == "random" and len(data.centers) <= FEW_MODES:
        found["hidden"] = (64, 64, 64)
    if start == "random" and data.X.shape[1] <= PLANE:
        # the library's own mixtures have few modes, which steady rates hold as well, and less narrowly
        found |= {"fourier": SCALES, **(QUICK if rule == DEFAULT_RULE and data.centers is None else {})}
    if rule == "proximal":
        found["activation"] = "softplus"
    if math.prod(data.X.shape) > 1 << 28:
        found["batch"] = 512
    return found
