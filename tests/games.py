"""Games whose equilibria are known: for each pair, which verdicts are true."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from saddlegan import Batch, Game, certify, fit
from saddlegan.networks import LinearGenerator

Sampler = Callable[[int, torch.Generator], Tensor]


@dataclasses.dataclass(frozen=True)
class Known:
    """A pair with the truth about it.

    Attributes:
        name: for test names.
        game: the pair.
        data: real samples or a sampler.
        critical: supremum of the lam at which the pair is proximal in `norm`; infinity: Nash; NaN: not Stackelberg.
        norm: the distance that `critical` refers to.
        provable: whether an exact class recognises the pair.
        project_generator: keeps the generator in its class.
        project_discriminator: keeps the discriminator in its class.
    """

    name: str
    game: Game
    data: Tensor | np.ndarray | Sampler
    critical: float
    norm: certify.Norm = "parameters"
    provable: bool = False
    project_generator: Callable[[nn.Module], None] | None = None
    project_discriminator: Callable[[nn.Module], None] | None = None

    def equilibrium(self, lam: float) -> bool:
        """Whether the pair is a lam-proximal equilibrium."""
        if math.isnan(self.critical):
            return False
        return lam <= self.critical

    def search(self, **options: Any) -> certify.Search:
        """Settings with this game's classes."""
        return certify.Search(  # type: ignore[arg-type]
            project_generator=self.project_generator, project_discriminator=self.project_discriminator, **options
        )


class Point(nn.Module):
    """G(z) = theta, one point."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)

    def forward(self, z: Tensor) -> Tensor:
        return self.theta.expand(z.shape[0], -1)


class Slope(nn.Module):
    """D(x) = w^T x."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w


def clamp_to(bound: float) -> Callable[[nn.Module], None]:
    """Projection onto the cube of half side `bound`."""

    def project(player: nn.Module) -> None:
        for parameter in player.parameters():
            parameter.clamp_(-bound, bound)

    return project


def _rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _zeros(d: int) -> Tensor:
    return torch.zeros(256, d, dtype=torch.float64)


def solve_matrix(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Optimal mixed strategies by two linear programs, one for each player."""
    m, n = A.shape
    row = linprog(
        np.r_[np.zeros(m), 1],
        A_ub=np.c_[A.T, -np.ones(n)],
        b_ub=np.zeros(n),
        A_eq=[np.r_[np.ones(m), 0]],
        b_eq=[1],
        bounds=[(0, None)] * m + [(None, None)],
    )
    column = linprog(
        np.r_[np.zeros(n), -1],
        A_ub=np.c_[-A, np.ones(m)],
        b_ub=np.zeros(m),
        A_eq=[np.r_[np.ones(n), 0]],
        b_eq=[1],
        bounds=[(0, None)] * n + [(None, None)],
    )
    p, q = np.maximum(row.x[:m], 0), np.maximum(column.x[:n], 0)
    return p / p.sum(), q / q.sum()


def pennies(seed: int, *, moved: bool) -> Known:
    p = [0.55, 0.45] if moved else [0.5, 0.5]
    game = certify.matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=p, column=[0.5, 0.5])
    del seed
    return Known("pennies", game, _zeros(2), math.nan if moved else math.inf, provable=True)


def matrix(seed: int, *, moved: bool) -> Known:
    """A random matrix game; moved: the row player plays the pure strategy with the worst outcome."""
    A = np.random.default_rng(seed).standard_normal((3 + seed % 3, 4))
    p, q = solve_matrix(A)
    if moved:
        p = np.eye(len(A))[int(A.max(1).argmax())]
    game = certify.matrix_game(A, row=p, column=q)
    return Known("matrix", game, _zeros(len(A)), math.nan if moved else math.inf, provable=True)


def bilinear(seed: int, *, moved: bool) -> Known:
    """V = E w.x - w.theta with data of mean zero that is only sampled: the pair (0, 0) is Nash, (0.3, 0) is not."""
    d = 1 + seed % 4
    game = Game(
        Point(torch.full((d,), 0.3 if moved else 0.0, dtype=torch.float64)),
        Slope(torch.zeros(d, dtype=torch.float64)),
        objective="wasserstein",
        latent=1,
    )
    return Known(
        "bilinear",
        game,
        lambda n, generator: torch.randn(n, d, generator=generator, dtype=torch.float64),
        math.nan if moved else math.inf,
        project_discriminator=clamp_to(1.0),
    )


def quadratic(seed: int, *, moved: bool) -> Known:
    """V = |theta|^2/2 - theta.w - |w|^2/2, strongly convex-concave: Nash at 0 only."""
    d = 1 + seed % 5
    theta = torch.zeros(d, dtype=torch.float64)
    if moved:
        theta[0] = 0.2
    game = Game(
        Point(theta),
        Slope(torch.zeros(d, dtype=torch.float64)),
        objective="wasserstein",
        latent=1,
        generator_penalty=lambda G, batch: 0.5 * batch.fake.square().sum(1).mean(),
        discriminator_penalty=lambda D, batch: 0.5 * D.w.square().sum(),  # type: ignore[union-attr]
    )
    return Known("quadratic", game, _zeros(d), math.nan if moved else math.inf)


def dirac(seed: int, *, moved: bool) -> Known:
    """The Dirac-GAN with logits: data at 0, G = theta, D(x) = w x; Nash at (0, 0)."""
    theta = torch.tensor([0.5 * (-1) ** seed if moved else 0.0], dtype=torch.float64)
    game = Game(Point(theta), Slope(torch.zeros(1, dtype=torch.float64)), objective="vanilla", latent=1)
    return Known("dirac", game, _zeros(1), math.nan if moved else math.inf, project_discriminator=clamp_to(2.0))


def leader(seed: int, *, moved: bool) -> Known:
    """V = -a/2 theta^2 - b theta w - c/2 w^2 on |theta| <= 1: Stackelberg at 0, proximal up to b^2/a - c, not Nash.

    max over w' of V - (lam/2) w'^2 is (b^2/(c + lam) - a)/2 theta^2, which is not negative while lam <= b^2/a - c.
    """
    a, b, c = 1.0, 2.0 + 0.05 * (seed % 5), 1.0
    theta = torch.tensor([0.3 if moved else 0.0], dtype=torch.float64)
    game = Game(
        Point(theta),
        Slope(torch.zeros(1, dtype=torch.float64)),
        objective="wasserstein",
        latent=1,
        generator_penalty=lambda G, batch: -0.5 * a * batch.fake.square().sum(1).mean(),
        discriminator_penalty=lambda D, batch: (
            0.5 * c * D.w.square().sum() + (b - 1.0) * (batch.fake @ D.w).mean()  # type: ignore[union-attr,operator]
        ),
    )
    return Known("leader", game, _zeros(1), math.nan if moved else b * b / a - c, project_generator=clamp_to(1.0))


def no_nash(seed: int, *, moved: bool) -> Known:
    """V = (theta - w)^2 on [-1, 1]^2 has no Nash point; (0, 1) is Stackelberg and proximal for lam = 0 only."""
    sign = 1.0 if seed % 2 else -1.0
    game = Game(
        Point(torch.tensor([0.2 * sign if moved else 0.0], dtype=torch.float64)),
        Slope(torch.tensor([sign], dtype=torch.float64)),
        objective="wasserstein",
        latent=1,
        discriminator_penalty=lambda D, batch: (  # type: ignore[operator]
            -((batch.fake - D.w).square().mean() + (batch.fake @ D.w).mean())  # type: ignore[operator]
        ),
    )
    return Known(
        "no-nash",
        game,
        _zeros(1),
        math.nan if moved else 0.0,
        project_generator=clamp_to(1.0),
        project_discriminator=clamp_to(1.0),
    )


def quadratic_wgan(seed: int, *, moved: bool) -> Known:
    """The solved quadratic WGAN; moved: the generator's weight by 5%."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((256, 6)) @ rng.standard_normal((6, 6)) + rng.standard_normal(6)
    model = fit.QuadraticWGAN(n_latent=1 + seed % 4, center=seed % 2 == 0).fit(X)
    if moved:
        with torch.no_grad():
            model.generator_.weight *= 1.05  # type: ignore[operator]
    return Known("quadratic-wgan", model.game_, X, math.nan if moved else math.inf, provable=True)


class Potential(nn.Module):
    """D(x) = x^T L x + g^T x, with its c-transform as a penalty (see `gaussian`)."""

    def __init__(self, L: Tensor, g: Tensor) -> None:
        super().__init__()
        self.L, self.g = nn.Parameter(L), nn.Parameter(g)

    def forward(self, x: Tensor) -> Tensor:
        return ((x @ self.L) * x).sum(1) + x @ self.g


def gaussian(seed: int, *, moved: bool) -> Known:
    """The Gaussian W2 game as a pair of networks: D^c enters as a penalty, the classes as projections."""
    d = (1, 2, 3)[seed % 3]
    rng = np.random.default_rng(seed)
    B = rng.standard_normal((d, d))
    Sigma = np.eye(d) + B @ B.T / d
    Sigma *= 4.0 / np.linalg.eigvalsh(Sigma)[-1]
    eta = 1.7
    exact = certify.GaussianW2Game(Sigma, eta)
    A, b, L, g = (torch.from_numpy(np.array(part)) for part in exact.optimal_pair())
    if moved:
        b = b + 0.5 * torch.from_numpy(np.linalg.eigh(Sigma)[1][:, -1].copy())
    G = LinearGenerator(d, d, dtype=torch.float64, generator=_rng(seed))
    with torch.no_grad():
        G.weight.copy_(A.T)
        G.mean.copy_(b)
    eye = torch.eye(d, dtype=torch.float64)

    def excess(D: nn.Module, batch: Batch) -> Tensor:
        """E D^c - D on fakes, which turns -E D(G) of the Wasserstein game into -E D^c(G)."""
        fake = batch.fake
        H = 0.5 * eta * eye - 0.5 * (D.L + D.L.T)  # type: ignore[operator,union-attr]
        w = D.g + eta * fake  # type: ignore[operator]
        conjugate = 0.25 * (torch.linalg.solve(H, w.T).T * w).sum(1) - 0.5 * eta * fake.square().sum(1)
        return (conjugate - D(fake)).mean()

    def into_balls(player: nn.Module) -> None:
        U, s, V = torch.linalg.svd(player.weight)  # type: ignore[arg-type]
        player.weight.copy_((U * s.clamp_max(1.0)) @ V)  # type: ignore[operator,union-attr]
        player.mean.div_(player.mean.norm().clamp_min(1.0))  # type: ignore[operator,union-attr]

    def c_concave(player: nn.Module) -> None:
        values, Q = torch.linalg.eigh(0.5 * (player.L + player.L.T))  # type: ignore[operator,union-attr]
        player.L.copy_((Q * values.clamp_max(0.45 * eta)) @ Q.T)  # type: ignore[operator,union-attr]

    game = Game(G, Potential(L, g), objective="wasserstein", latent=d, discriminator_penalty=excess)
    root = torch.from_numpy(np.linalg.cholesky(Sigma))
    return Known(
        "gaussian",
        game,
        lambda n, generator: torch.randn(n, d, generator=generator, dtype=torch.float64) @ root.T,
        math.nan if moved else 2.0 / eta,  # sigma / (eta (sigma - r)) with sigma = 2
        norm="sobolev",
        project_generator=into_balls,
        project_discriminator=c_concave,
    )


MAKERS: dict[str, Callable[..., Known]] = {
    "pennies": pennies,
    "matrix": matrix,
    "bilinear": bilinear,
    "quadratic": quadratic,
    "dirac": dirac,
    "leader": leader,
    "no-nash": no_nash,
    "quadratic-wgan": quadratic_wgan,
    "gaussian": gaussian,
}
