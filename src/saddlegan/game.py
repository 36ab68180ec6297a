"""`Game`: the one object that `fit` finds optima of, `train` moves and `certify` judges.

    min over G, max over D of   V(G, D) = E_x f0(D(x)) + E_z f1(D(G(z))) + R_g(G) - R_d(D)

The game owns the signs: the generator's loss falls with V, the discriminator's loss is minus what D adds to V. Nobody
else in the library negates a value.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import warnings
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from saddlegan import checks
from saddlegan.batch import Batch, Rows, apply, conditions, count, own_conditions, read, samples, tensors
from saddlegan.errors import InputError, InputTypeError, ObjectiveError
from saddlegan.modules import like, wide
from saddlegan.networks import TwoLayerDiscriminator
from saddlegan.objectives import OWN_VALUE, Objective, get

Latent = int | Callable[[int, torch.Generator | None], Any]
Penalty = Callable[[nn.Module, Batch], Tensor]
FakeTransform = Callable[..., Tensor]
OwnValue = Callable[[Any, Any, Batch], Tensor]

_SQUASHING = (nn.Sigmoid, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.LogSigmoid, nn.Hardsigmoid)
_SQUASHED = ("Sigmoid", "Softmax", "LogSoftmax", "LogSigmoid", "Hardsigmoid")
_RESHAPED = ("View", "Squeeze", "Unsqueeze", "Reshape", "UnsafeView", "Mean", "ToCopy", "Clone", "Select", "Alias")


@dataclasses.dataclass(frozen=True)
class SecondMomentPenalty:
    """R_g(G) = E ||G(z) - center||^2, the theory's generator regulariser.

    Attributes:
        center: (d,), zero for the plain second moment.
    """

    center: Tensor
    non_negative = True  # leaving it out can only lower V

    def __call__(self, G: nn.Module, batch: Batch) -> Tensor:
        del G  # the samples say it all
        return (batch.fake - self.center).flatten(1).square().sum(1).mean()


@dataclasses.dataclass(frozen=True)
class PathNormPenalty:
    """R_d(D) = beta * sum_j |v_j| ||u_j||^p of a two-layer discriminator, the dual side of the constraint (1).

    Attributes:
        beta: weight of the penalty; the constraint's right side.
    """

    beta: float
    discriminator_only = True

    @property
    def non_negative(self) -> bool:
        """Whether it is at least 0 whatever D is, so that leaving it out can only raise V."""
        return self.beta >= 0

    def __call__(self, D: nn.Module, batch: Batch) -> Tensor:
        del batch  # a property of the weights alone
        if not isinstance(D, TwoLayerDiscriminator):
            raise InputTypeError(f"`PathNormPenalty` needs a TwoLayerDiscriminator, got {type(D).__name__}")
        return self.beta * D.path_norm()


@dataclasses.dataclass(frozen=True)
class Gradients:
    """Gradient of each player's own loss, in the order of its trainable parameters; descend both to play the game."""

    generator: tuple[Tensor, ...]
    discriminator: tuple[Tensor, ...]


class Own(nn.Module):
    """A bare parameter as a player: called with anything, it is its value.

    Args:
        value: the parameter.

    Example:
        >>> Own(nn.Parameter(torch.ones(2)))()
        Parameter containing:
        tensor([1., 1.], requires_grad=True)
    """

    def __init__(self, value: nn.Parameter) -> None:
        super().__init__()
        self.value = value

    def forward(self, *_: object) -> Tensor:
        """Return the parameter."""
        return self.value


def read_latent(latent: object) -> Latent:
    """Read a `latent`: the length of a Gaussian one, or a callable.

    Raises:
        InputTypeError: neither a number nor callable.
        InputError: not a whole number of at least 1.
    """
    if callable(latent):
        return latent
    if latent is None or isinstance(latent, (bool, str)):
        raise InputTypeError(f"`latent` must be a number or a callable n, generator -> z, got {latent!r}")
    return checks.count("latent", latent)


class Game:
    """A zero-sum game between a generator and a discriminator.

    Conditions (labels, condition vectors, paired images) come with the real samples, x = (x, *conditions), and are
    handed on: G(z, *conditions), D(x, *conditions). Where `latent` returns a tuple (z, *conditions), the generated half
    has conditions of its own.

    *Pairing objectives* have V = E f(D(x) - D(G(z))) + R_g(G) - R_d(D), x and z matched in pairs. A subclass that
    overrides `value`, or `Game.from_value`, plays a value of its own, zero-sum by construction.

    *Penalties* are part of the value. R_d may look at the generated samples; then the generator plays it too, since V
    is one function, and descends -R_d with the rest. A penalty that is D's alone says so by an attribute
    `discriminator_only = True`, as all of the library's do (they hold the generated samples constant, as published
    loops do): the generator never descends it, and nothing is spent on it in the generator's loss. `train.R1` and
    `train.R2` take D's slopes from the passes that the value is made of: noise and dropout are drawn once for both.

    Args:
        G: generator, latents (n, ...) to samples (n, ...).
        D: discriminator, samples to raw real outputs: (n,), (n, 1), or patch maps (n, c, h, w), which are averaged.
        objective: name or `Objective`; its `link` maps D's raw output into the domain of f0 and f1.
        latent: length of a standard Gaussian latent, or a callable n, torch.Generator | None -> latents (or n ->
            latents); a tuple is (z, *conditions), whose z may itself be a tuple or mapping.
        generator_penalty: R_g, a callable (G, batch) -> scalar, part of the value; `batch` is a `Batch`.
        discriminator_penalty: R_d, a callable (D, batch) -> scalar, subtracted from the value.
        fake_transform: a callable (D, fake, *conditions) -> raw outputs that stands for D(fake) on generated samples,
            such as the c-transform of W2GAN, `train.CTransform`; D itself if None.
        rows_in_groups: how many rows D looks at together (packing, minibatch statistics); it may give one output a row
            or one a group. Every split of a batch keeps groups whole.

    Raises:
        InputTypeError: G or D is not a module, or `latent` is neither a number nor callable.
        InputError: `latent` is not positive, or both players hold the same trainable parameter.
        ObjectiveError: unknown objective.

    Warns:
        UserWarning: D ends in a sigmoid or softmax and the objective expects logits.

    References:
        Theory, equation (0) and 4.1.

    Example:
        >>> from saddlegan.networks import LinearGenerator, TwoLayerDiscriminator
        >>> game = Game(LinearGenerator(2, 3), TwoLayerDiscriminator(3, 4), objective="wasserstein", latent=2)
        >>> game.value(torch.ones(5, 3), game.sample_latent(5)).item()  # outer weights start at zero
        0.0
    """

    def __init__(
        self,
        G: nn.Module,
        D: nn.Module,
        *,
        objective: str | Objective = "vanilla",
        latent: Latent = 16,
        generator_penalty: Penalty | None = None,
        discriminator_penalty: Penalty | None = None,
        fake_transform: FakeTransform | None = None,
        rows_in_groups: int = 1,
    ) -> None:
        for name, player in (("G", G), ("D", D)):
            if not isinstance(player, nn.Module):
                raise InputTypeError(f"`{name}` must be a torch.nn.Module, got {type(player).__name__}")
        _refuse_shared(G, D)
        self.G = G
        self.D = D
        self.objective = get(objective)
        self.latent = read_latent(latent)
        self.generator_penalty = generator_penalty
        self.discriminator_penalty = discriminator_penalty
        self.fake_transform = fake_transform
        self.rows_in_groups = checks.count("rows_in_groups", rows_in_groups)
        self._own_value: OwnValue | None = None
        self._read_latent: tuple[Any, bool] = (None, False)
        self._looked = not self.objective.logits
        if self.objective is OWN_VALUE and type(self).value is Game.value and type(self) is Game:
            raise ObjectiveError("`objective` 'own-value' comes with a value: use Game.from_value(G, D, value)")
        self._look_at_layers()

    @classmethod
    def from_value(
        cls,
        G: nn.Module | nn.Parameter,
        D: nn.Module | nn.Parameter,
        value: OwnValue,
        *,
        latent: Latent = 1,
        rows_in_groups: int = 1,
    ) -> Self:
        """A game with a value of its own: min over G, max over D of value(G, D, batch), zero-sum by construction.

        Args:
            G: the player that descends, any module; a bare parameter becomes a module whose call, G(), is it.
            D: the player that ascends, in the same way.
            value: a callable (G, D, batch) -> scalar; `batch` is a `Batch` with x, conditions and z.
            latent: what `batch.z` is drawn from, see `Game`.
            rows_in_groups: see `Game`.

        Raises:
            InputTypeError: a player is neither a module nor a parameter, or `value` is not callable.

        Example:
            >>> g, d = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))
            >>> game = Game.from_value(g, d, lambda G, D, batch: G() * D())
            >>> found = game.gradients(torch.zeros(1, 1), torch.zeros(1, 1))
            >>> found.generator[0].item(), found.discriminator[0].item()  # dV/dg and -dV/dd
            (3.0, -2.0)
        """
        if not callable(value):
            raise InputTypeError(f"`value` must be a callable G, D, batch -> scalar, got {type(value).__name__}")
        players = [Own(player) if isinstance(player, nn.Parameter) else player for player in (G, D)]
        game = cls(*players, objective="wasserstein", latent=latent, rows_in_groups=rows_in_groups)
        game.objective = OWN_VALUE
        game._own_value = value
        return game

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(G={type(self.G).__name__}, D={type(self.D).__name__}, "
            f"objective={self.objective.name!r}, latent={self.latent!r})"
        )

    @property
    def has_own_value(self) -> bool:
        """Whether the value is the user's own, so that nothing is known of its form."""
        return self._own_value is not None or type(self).value is not Game.value

    def replace(self, *, G: nn.Module | None = None, D: nn.Module | None = None) -> Self:
        """Return the same game, of the same class, played by other players."""
        other = copy.copy(self)
        if G is not None:
            other.G = G
        if D is not None:
            other.D = D
        return other

    def without_discriminator_only_penalty(self) -> Self:
        """The game as the generator plays it: without an R_d that is D's alone, see `Game`."""
        if not _discriminator_only(self.discriminator_penalty):
            return self
        other = copy.copy(self)
        other.discriminator_penalty = None
        return other

    def sample_latent(self, n: int, generator: torch.Generator | None = None) -> Any:
        """Draw n latents on the generator network's device and in its dtype.

        Args:
            n: number of latents.
            generator: source of randomness; torch's global one if None. It may live on another device than G.

        Returns:
            Latents (n, k), or whatever the `latent` callable makes, moved to G's device.

        Raises:
            InputError: the `latent` callable returned another number of rows.
            InputTypeError: it returned something other than tensors, tuples and mappings.
        """
        reference, n = like(self.G), checks.count("n", n)
        if isinstance(self.latent, int):
            source = reference.device if generator is None else generator.device
            z = torch.randn(n, self.latent, generator=generator, dtype=reference.dtype, device=source)
            return z.to(reference.device)
        latent: Callable[..., Any] = self.latent
        if self._read_latent[0] is not latent:
            self._read_latent = latent, _takes_one(latent)
        z = latent(n) if self._read_latent[1] else latent(n, generator)
        if isinstance(z, list):
            z = tuple(z)
        for entry in tensors(z):
            if entry.ndim == 0 or len(entry) != n:
                raise InputError(f"`latent` was asked for {n} rows and returned shape {tuple(entry.shape)}")
        return apply(lambda entry: entry.to(reference.device), z)

    def batch(self, x: Rows | None, z: Rows, *, fake: Tensor | None = None) -> Batch:
        """Put a batch together, generated samples included (with their graph).

        Args:
            x: real samples (n, ...), (x, *conditions) or a mapping with an "x"; None where only z matters.
            z: latents (m, ...) or (z, *conditions).
            fake: G's samples at z where they are at hand.

        Raises:
            InputError: latents without conditions of their own whose number is not that of the batch's conditions.
        """
        rows = x if x is None or isinstance(x, Tensor) else read(x)
        real = None if rows is None else samples(rows)
        given = conditions(rows)
        if fake is None and self._own_value is None:
            fake = self.generate(z, given)
        return Batch(real, given, z, fake, rows_in_groups=self.rows_in_groups)

    def generate(self, z: Rows, given: tuple[Any, ...] = ()) -> Tensor:
        """G(z, *conditions): the latents' own conditions, else the given ones."""
        if isinstance(z, Tensor) and not given:
            return self.G(z)
        own = own_conditions(z)
        first = z[0] if isinstance(z, tuple) else z
        if own or not given:
            return self.G(first, *own)
        if count(first) != len(given[0]):
            raise InputError(
                f"{count(first)} latents cannot take the conditions of {len(given[0])} samples; draw as many latents, "
                "or let `latent` return (z, *conditions)"
            )
        return self.G(first, *given)

    def value(self, x: Rows, z: Rows) -> Tensor:
        """V(G, D) on a batch, penalties included.

        Args:
            x: real samples (n, ...), (x, *conditions) or a mapping with an "x".
            z: latents (m, ...) or (z, *conditions).

        Returns:
            Scalar tensor, differentiable in both players.

        Raises:
            InputError: D's output is not one number a sample (or group), or a patch map.
        """
        batch = self.batch(x, z)
        if self._own_value is not None:
            return self._own_value(self.G, self.D, batch)
        value = self._adversarial(batch)
        if self.generator_penalty is not None:
            value = value + self.generator_penalty(self.G, batch)
        if self.discriminator_penalty is not None:
            value = value - self.discriminator_penalty(self.D, batch)
        return value

    def _adversarial(self, batch: Batch) -> Tensor:
        """The value without penalties, keeping those of D's passes that its penalty will differentiate."""
        batch.differentiated = getattr(self.discriminator_penalty, "differentiated", ())
        f = self.objective.pairing
        if f is not None:
            return f(self._difference(batch)).mean()
        return self.real_term(batch) + self.fake_term(batch)

    def real_term(self, batch: Batch) -> Tensor:
        """E f0(D(x)), the part of the value that only D moves."""
        return self.objective.f0(self.objective.link(self._on_real(batch))).mean()

    def fake_term(self, batch: Batch) -> Tensor:
        """E f1(D(fake)), the part of the value that both players move."""
        return self.objective.f1(self.objective.link(self._on_fake(batch))).mean()

    def _difference(self, batch: Batch) -> Tensor:
        """D(x) - D(fake), matched in pairs."""
        real, fake = self._on_real(batch), self._on_fake(batch)
        if real.numel() != fake.numel() or len(real) != len(fake):
            raise InputError(
                f"{self.objective.name!r} matches real and generated samples in pairs; got {len(real)} and {len(fake)}"
            )
        return real - fake.view_as(real)  # (n,) beside (n, 1) would broadcast to (n, n)

    def _on_real(self, batch: Batch) -> Tensor:
        raw = self._pass("x", batch.x, batch.conditions, batch)
        self._check_outputs(raw, len(batch.x), "x")
        if not self._looked:
            self._look_at_outputs(raw)
        return wide(raw)

    def _on_fake(self, batch: Batch) -> Tensor:
        given = batch.fake_conditions
        if self.fake_transform is not None:
            raw = self.fake_transform(self.D, batch.fake, *given)
        else:
            raw = self._pass("fake", batch.fake, given, batch)
        self._check_outputs(raw, len(batch.fake), "G(z)")
        return wide(raw)

    def _pass(self, name: str, rows: Tensor, given: tuple[Any, ...], batch: Batch) -> Any:
        """D at the samples of that name, kept with a graph to them where D's penalty wants its slopes there."""
        kept = name in batch.differentiated and torch.is_grad_enabled() and not rows.requires_grad
        if kept:
            rows = rows.detach().requires_grad_(True)
        raw = self.D(rows, *given) if given else self.D(rows)
        if kept:
            batch.passes[name] = self.D, rows, raw
        return raw

    def _check_outputs(self, raw: Any, n: int, what: str) -> None:
        """Refuse what is not one number a row or group, or a patch map: its mean would be another game's."""
        if not isinstance(raw, Tensor):
            raise InputTypeError(f"`D` must return a tensor of raw outputs, got {type(raw).__name__}")
        shape = raw.shape
        one = len(shape) in (1, 4) or (len(shape) == 2 and shape[1] == 1)
        if one and (shape[0] == n or shape[0] * self.rows_in_groups == n):
            return
        groups = "" if self.rows_in_groups == 1 else f" (or {n // self.rows_in_groups}, one a group)"
        raise InputError(
            f"`D` must return one number a sample, ({n},) or ({n}, 1){groups}, or a patch map ({n}, c, h, w) for {n} "
            f"rows of {what}, got {tuple(shape)}; reduce its output to one number a row, by a sum or a last layer"
        )

    def generator_loss(self, z: Rows, x: Rows | None = None) -> Tensor:
        """What the generator descends: V's part of it, or the objective's own loss where it is not zero-sum.

        Args:
            z: latents (m, ...) or (z, *conditions).
            x: real samples; needed where the batch has conditions, in pairing and own values, and for penalties that
                look at them.

        Raises:
            InputError: x is needed and missing.
        """
        if self.has_own_value:
            if x is None:
                raise InputError("the generator's loss of an own value needs `x`")
            return self.value(x, z)
        return self.generator_loss_of(self.batch(x, z))

    def generator_loss_of(self, batch: Batch) -> Tensor:
        """`generator_loss` of samples already generated, with their graph."""
        own, f = self.objective.generator_loss, self.objective.pairing
        if f is not None:
            loss = (f if own is None else own)(self._difference(batch)).mean()
        else:
            loss = self.fake_term(batch) if own is None else own(self._on_fake(batch)).mean()
        if self.generator_penalty is not None:
            loss = loss + self.generator_penalty(self.G, batch)
        played = self.discriminator_penalty
        if played is not None and self.objective.zero_sum and not _discriminator_only(played):
            loss = loss - played(self.D, batch)
        return loss

    def discriminator_loss(self, x: Rows, fake: Tensor | None, z: Rows = None) -> Tensor:
        """What the discriminator descends: -(E f0(D(x)) + E f1(D(fake))) + R_d.

        Args:
            x: real samples.
            fake: generated samples; detach them to save the generator's graph. None for an own value, which makes them.
            z: the latents they came from; needed where these brought conditions, and for own values.
        """
        if self.has_own_value:
            return -self.value(x, z)
        batch = self.batch(x, z, fake=fake)
        loss = -self._adversarial(batch)
        return loss if self.discriminator_penalty is None else loss + self.discriminator_penalty(self.D, batch)

    def gradients(self, x: Rows, z: Rows) -> Gradients:
        """Return the gradient of each player's own loss at the current pair; parameters and `.grad` stay untouched.

        Where the objective is zero-sum these are dV/dG and -dV/dD.

        Args:
            x: real samples.
            z: latents.

        Returns:
            `Gradients`, with zeros for parameters that a loss does not touch.
        """
        with torch.enable_grad():  # a caller's no_grad must not turn gradients into silent zeros
            fake = None if self.has_own_value else self.batch(x, z).fake.detach()
            return Gradients(
                generator=_gradient(self.generator_loss(z, x), self.G),
                discriminator=_gradient(self.discriminator_loss(x, fake, z), self.D),
            )

    def _look_at_layers(self) -> None:
        last: nn.Module = self.D
        while type(last) is nn.Sequential and len(last):
            last = last[-1]
        if not self._looked and isinstance(last, _SQUASHING):
            self._warn_of_squashing(type(last).__name__)

    def _look_at_outputs(self, raw: Tensor) -> None:
        """Find a sigmoid called as a function, by the graph of D's first outputs."""
        node = raw.grad_fn
        if node is None:
            return  # no graph here; look again next time
        self._looked = True
        while node is not None and node.name().startswith(_RESHAPED):
            node = node.next_functions[0][0] if node.next_functions else None
        if node is not None and node.name().startswith(_SQUASHED):
            self._warn_of_squashing(node.name().removesuffix("Backward0"))

    def _warn_of_squashing(self, name: str) -> None:
        self._looked = True
        warnings.warn(
            f"`D` ends in {name} but {self.objective.name!r} expects logits and squashes them itself: gradients all "
            f"but vanish. Drop D's last {name}, and let the objective do it.",
            UserWarning,
            stacklevel=3,
        )


def _discriminator_only(penalty: Penalty | None) -> bool:
    return getattr(penalty, "discriminator_only", False)


def _takes_one(latent: Callable[..., Any]) -> bool:
    """Whether a callable has room for one argument only."""
    try:
        inspect.signature(latent).bind(0, None)
    except TypeError:
        return True
    except ValueError:  # no signature to read
        return False
    return False


def _refuse_shared(G: nn.Module, D: nn.Module) -> None:
    mine = {id(p): name for name, p in G.named_parameters() if p.requires_grad}
    both = [f"G.{mine[id(p)]} is D.{name}" for name, p in D.named_parameters() if id(p) in mine]
    if both:
        raise InputError(
            f"`G` and `D` share trainable parameters ({', '.join(both)}): a player cannot descend and ascend at once; "
            "give each its own copy, or freeze them"
        )


def _gradient(loss: Tensor, player: nn.Module) -> tuple[Tensor, ...]:
    parameters = [p for p in player.parameters() if p.requires_grad]
    if not parameters or not loss.requires_grad:
        return tuple(torch.zeros_like(p) for p in parameters)
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
