"""Landscape diagnostics of a pair: gradient norms, path angle, leading eigenvalues of the game's Jacobian.

The game's vector field is v = (grad_G V, -grad_D V): both players descend it. Its Jacobian is P H with H the Hessian
of V and P = diag(I, -I), so that one Hessian-vector product gives one Jacobian-vector product.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs
from torch import Tensor, nn

from saddlegan import checks
from saddlegan.batch import count, take
from saddlegan.certify.search._measure import Data, check, paired, placed, read, seed_all, untouched
from saddlegan.checks import RandomState
from saddlegan.errors import InputError, SolveError
from saddlegan.game import Game
from saddlegan.modules import clone, like
from saddlegan.search import Batch

DENSE = 128  # up to this many parameters all eigenvalues are computed


@dataclasses.dataclass(frozen=True)
class GradientNorms:
    """Euclidean norms of both players' gradients of V."""

    generator: float
    discriminator: float


@dataclasses.dataclass(frozen=True)
class PathAngle:
    """The vector field seen along the line between two checkpoints.

    Attributes:
        alphas: positions; 0 is the first pair, 1 the second.
        cosines: cosine of the angle between v and the line. Passing from -1 to 1 at alpha = 1: attraction; a bump
            there: rotation.
        norms: ||v||.
    """

    alphas: tuple[float, ...]
    cosines: tuple[float, ...]
    norms: tuple[float, ...]


class Field:
    """V of copies of the pair in evaluation mode, with its gradient and Hessian-vector products."""

    def __init__(self, game: Game, batch: Batch) -> None:
        self.G, self.D = clone(game.G).eval(), clone(game.D).eval()
        self.game, self.batch = game.replace(G=self.G, D=self.D), batch
        self.players = [[p for p in player.parameters() if p.requires_grad] for player in (self.G, self.D)]
        self.parameters = [*self.players[0], *self.players[1]]
        self.split = sum(p.numel() for p in self.players[0])

    def gradient(self, *, create_graph: bool) -> Tensor:
        seed_all(0)
        value = self.game.value(*self.batch)
        return _flat(
            torch.autograd.grad(
                value, self.parameters, create_graph=create_graph, allow_unused=True, materialize_grads=True
            )
        )

    def value(self) -> Tensor:
        """V on the batch."""
        seed_all(0)
        return self.game.value(*self.batch).detach()

    def on(self, batch: Batch) -> Field:
        """The same pair, not copied again, on another batch."""
        other = copy.copy(self)
        other.batch = batch
        return other

    def hessian_vector(self, gradient: Tensor, direction: Tensor) -> Tensor:
        """Hessian of V times a direction; `gradient` with its graph."""
        return self._signed(self.jacobian_vector(gradient, direction))

    def field(self) -> Tensor:
        return self._signed(self.gradient(create_graph=False))

    def jacobian_vector(self, gradient: Tensor, direction: Tensor) -> Tensor:
        if not gradient.requires_grad:
            return torch.zeros_like(direction)
        product = torch.autograd.grad(
            gradient @ direction, self.parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return self._signed(_flat(product))

    def _signed(self, vector: Tensor) -> Tensor:
        return torch.cat([vector[: self.split], -vector[self.split :]])


def _flat(parts: Any) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def draw(game: Game, data: Data, purpose: str, samples: int, random_state: RandomState) -> Batch:
    generator, samples = checks.generator(random_state), checks.count("samples", samples)
    X = read(data, game=game, rows=samples, generator=generator)
    check(game, X, purpose)
    groups = game.rows_in_groups
    rows = torch.randperm(count(X), generator=generator)[:samples]
    x = placed(take(X, rows[: len(rows) // groups * groups]), like(game.D))
    return x, game.sample_latent(count(x) if paired(game, x) else samples // groups * groups, generator)


def gradient_norms(game: Game, data: Data, *, samples: int = 1024, random_state: RandomState = 0) -> GradientNorms:
    """Return ||grad_G V|| and ||grad_D V|| on one large batch; both vanish at a smooth interior equilibrium.

    Args:
        game: the pair.
        data: real samples, see `nash`.
        samples: size of the batch.
        random_state: seed or generator.

    Raises:
        ObjectiveError: the objective is not zero-sum.
        InputError: see `nash`.

    References:
        Berard et al., ICLR 2020.

    Example:
        >>> from saddlegan.networks import LinearGenerator, TwoLayerDiscriminator
        >>> game = Game(LinearGenerator(2, 3), TwoLayerDiscriminator(3, 4), objective="wasserstein", latent=2)
        >>> gradient_norms(game, torch.ones(64, 3)).generator  # the outer weights start at zero: D = 0
        0.0
    """
    with untouched(data):
        field = Field(game, draw(game, data, "`certify.gradient_norms`", samples, random_state))
        v = field.field().double()
        return GradientNorms(float(v[: field.split].norm()), float(v[field.split :].norm()))


def path_angle(
    game: Game,
    G: nn.Module,
    D: nn.Module,
    data: Data,
    *,
    points: int = 31,
    end: float = 1.5,
    samples: int = 1024,
    random_state: RandomState = 0,
) -> PathAngle:
    """Return the angle between the game's vector field and the line from the game's pair to (G, D).

    Args:
        game: the first pair.
        G: generator of the second checkpoint, of the same architecture.
        D: its discriminator.
        data: real samples, see `nash`.
        points: how many positions between 0 and `end`.
        end: last position; beyond 1 lies the far side of the second checkpoint.
        samples: size of the batch.
        random_state: seed or generator.

    Raises:
        InputError: the second pair has other parameters, equals the first, or `points` is below 2.

    References:
        Berard et al., ICLR 2020, section 3.

    Example:
        >>> from saddlegan.networks import LinearGenerator, TwoLayerDiscriminator
        >>> rng = torch.Generator().manual_seed(0)
        >>> game = Game(LinearGenerator(2, 3), TwoLayerDiscriminator(3, 4), objective="wasserstein", latent=2)
        >>> far = LinearGenerator(2, 3, generator=rng), TwoLayerDiscriminator(3, 4, generator=rng)
        >>> len(path_angle(game, *far, torch.ones(64, 3), points=5).cosines)
        5
    """
    points, end = checks.count("points", points, least=2), checks.positive("end", end)
    with untouched(data):
        field = Field(game, draw(game, data, "`certify.path_angle`", samples, random_state))
        start = [p.detach().clone() for p in field.parameters]
        other = [p.detach() for player in (G, D) for p in player.parameters() if p.requires_grad]
        if [p.shape for p in start] != [p.shape for p in other]:
            raise InputError("`G` and `D` must have the trainable parameters of the game's own pair")
        stops = [b.to(a) for a, b in zip(start, other, strict=True)]
        line = _flat([b - a for a, b in zip(start, stops, strict=True)]).double()
        length = float(line.norm())
        if length == 0:
            raise InputError("`G` and `D` have the weights of the game's own pair: there is no line between them")
        alphas = np.linspace(0.0, end, points).tolist()
        cosines, norms = [], []
        for alpha in alphas:
            with torch.no_grad():
                for parameter, a, b in zip(field.parameters, start, stops, strict=True):
                    parameter.copy_(torch.lerp(a, b, alpha))
            v = field.field().double()
            norms.append(float(v.norm()))
            cosines.append(float(v @ line) / (norms[-1] * length) if norms[-1] > 0 else 0.0)
        return PathAngle(tuple(alphas), tuple(cosines), tuple(norms))


def game_spectrum(
    game: Game, data: Data, *, count: int = 10, samples: int = 1024, random_state: RandomState = 0
) -> np.ndarray:
    """Return the eigenvalues of largest modulus of the Jacobian of v = (grad_G V, -grad_D V).

    All real parts positive: a local attractor of gradient descent-ascent. Large imaginary parts: rotation. A negative
    real part: one player still has a direction to leave by.

    Args:
        game: the pair.
        data: real samples, see `nash`.
        count: how many; with up to 128 parameters all are computed and the largest `count` returned.
        samples: size of the batch.
        random_state: seed or generator.

    Returns:
        Complex eigenvalues (count,), by falling modulus.

    Raises:
        InputError: `count` is below 1.
        SolveError: Arnoldi iteration did not converge.

    References:
        Berard et al., ICLR 2020, section 4.

    Example:
        >>> from saddlegan.networks import LinearGenerator, TwoLayerDiscriminator
        >>> rng = torch.Generator().manual_seed(0)
        >>> D = TwoLayerDiscriminator(3, 4, generator=rng)
        >>> game = Game(LinearGenerator(2, 3, generator=rng), D, objective="wasserstein", latent=2)
        >>> game_spectrum(game, torch.ones(64, 3), count=2).shape
        (2,)
    """
    wanted = checks.count("count", count)
    with untouched(data):
        field = Field(game, draw(game, data, "`certify.game_spectrum`", samples, random_state))
        gradient = field.gradient(create_graph=True)
        size = gradient.shape[0]

        def product(v: np.ndarray) -> np.ndarray:
            direction = torch.from_numpy(np.ascontiguousarray(v.reshape(-1))).to(gradient)
            return field.jacobian_vector(gradient, direction).double().cpu().numpy()

        if size <= DENSE or wanted >= size - 1:
            values = np.linalg.eigvals(np.stack([product(column) for column in np.eye(size)], axis=1))
        else:
            operator: Any = LinearOperator((size, size), matvec=product, dtype=np.float64)  # type: ignore[call-arg]
            start = np.random.default_rng(0).standard_normal(size)
            try:
                values = np.asarray(eigs(operator, k=wanted, v0=start, return_eigenvectors=False))
            except ArpackNoConvergence as error:
                raise SolveError(f"Arnoldi iteration did not converge for {wanted} eigenvalues", error) from error
        return values[np.argsort(-np.abs(values), kind="stable")][:wanted].astype(complex)
