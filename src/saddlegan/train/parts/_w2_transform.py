"""W2GAN with quadratic cost: the c-transform of a discriminator, by an inner maximisation or in closed form."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from saddlegan import checks
from saddlegan.errors import BudgetWarning, InputError


class QuadraticPotential(nn.Module):
    """D(x) = x^T L x + g^T x with symmetric L, the discriminator of the Gaussian W2GAN.

    Args:
        n_features: d.
        dtype: of the parameters.
        device: of the parameters.

    References:
        [FO20]; theory 2.2.

    Example:
        >>> QuadraticPotential(3)(torch.ones(2, 3)).shape
        torch.Size([2])
    """

    def __init__(
        self, n_features: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        n_features = checks.count("n_features", n_features)
        self.curvature = nn.Parameter(torch.zeros(n_features, n_features, dtype=dtype, device=device))
        self.slope = nn.Parameter(torch.zeros(n_features, dtype=dtype, device=device))

    @property
    def L(self) -> Tensor:
        """The symmetric matrix (d, d) of the quadratic term, the symmetric part of `curvature`."""
        return 0.5 * (self.curvature + self.curvature.mT)

    def forward(self, x: Tensor) -> Tensor:
        """Return D(x) (n,)."""
        return (x @ self.L * x).sum(1) + x @ self.slope


class CTransform:
    """D^c on generated samples for W2GAN: `Game(objective="wasserstein", fake_transform=CTransform(eta))`.

        D^c(y) = sup_x D(x) - (eta/2) ||x - y||^2,        V(G, D) = E D(X) - E D^c(G(z))

    A `QuadraticPotential` is transformed in closed form, x* = (eta I - 2L)^{-1} (eta y + g). Any other D by damped
    ascent x <- x + (s/eta) (grad D(x) + eta (y - x)) for each sample, the step s halved where the value would fall; it
    stops when every residual ||grad D(x) + eta (y - x)|| is at most tol * eta * (1 + ||y||). At the maximiser the
    envelope theorem gives the gradients: grad_theta D(x*) for D's parameters and eta (x* - y) for y.

    Assumptions: D - (eta/2)||.||^2 is bounded above; a finite search may stop in a local maximum, which makes D^c a
    lower bound and V an upper one.

    Args:
        eta: cost (eta/2) ||x - y||^2.
        steps: most ascents.
        tol: relative residual that ends the ascent.

    Raises:
        InputError: eta I - 2L is not positive definite: D^c is infinite.

    Warns:
        BudgetWarning: `steps` ascents were spent before every residual was small.

    References:
        [FO20]; theory 2.2.

    Example:
        >>> D = QuadraticPotential(2)  # D = 0: the supremum is at x = y
        >>> CTransform(1.0)(D, torch.ones(3, 2))
        tensor([0., 0., 0.], grad_fn=<SubBackward0>)
    """

    def __init__(self, eta: float = 1.0, *, steps: int = 200, tol: float = 1e-5) -> None:
        self.eta = checks.number("eta", eta, least=1e-12)
        self.steps = checks.count("steps", steps)
        self.tol = checks.number("tol", tol, least=1e-15)

    def __call__(self, D: nn.Module, fake: Tensor, *conditions: Tensor) -> Tensor:
        """Return D^c (n,) as the raw outputs that the Wasserstein objective subtracts."""
        x = self.maximiser(D, fake, *conditions)
        return D(x, *conditions).reshape(len(fake)) - 0.5 * self.eta * (x - fake).flatten(1).square().sum(1)

    def maximiser(self, D: nn.Module, y: Tensor, *conditions: Tensor) -> Tensor:
        """x* (n, ...) for every row of y, a constant."""
        y = y.detach()
        return self._solve(D, y) if isinstance(D, QuadraticPotential) else self._search(D, y, conditions)

    @torch.no_grad()
    def _solve(self, D: QuadraticPotential, y: Tensor) -> Tensor:
        H = self.eta * torch.eye(y.shape[1], dtype=y.dtype, device=y.device) - 2.0 * D.L
        # Cholesky as the test too: it fails where the supremum is infinite
        factor, failed = torch.linalg.cholesky_ex(H)
        if int(failed):
            raise InputError("`eta` I - 2L is not positive definite: D^c is infinite; raise `eta` or slow D down")
        return torch.cholesky_solve((self.eta * y + D.slope).mT, factor).mT

    def _search(self, D: nn.Module, y: Tensor, given: tuple[Tensor, ...]) -> Tensor:
        flat = y.flatten(1)
        allowed = self.tol * self.eta * (1.0 + flat.norm(dim=1))
        length = torch.full_like(allowed, 1.0)
        x = flat.clone()
        value, residual = self._ascent(D, x, flat, y, given)
        for _ in range(self.steps):
            if bool((residual.norm(dim=1) <= allowed).all()):
                return x.view_as(y)
            trial = x + (length / self.eta)[:, None] * residual
            trial_value, trial_residual = self._ascent(D, trial, flat, y, given)
            # next to the maximum the values differ by rounding only; there the residual decides
            noise = 8 * torch.finfo(y.dtype).eps * (1.0 + value.abs())
            calmer = trial_residual.norm(dim=1) <= residual.norm(dim=1)
            better = (trial_value > value + noise) | ((trial_value >= value - noise) & calmer)
            x = torch.where(better[:, None], trial, x)
            value = torch.where(better, trial_value, value)
            residual = torch.where(better[:, None], trial_residual, residual)
            # each row has a step of its own: one hard sample must not hold up the batch
            length = torch.where(better, (1.2 * length).clamp_max(4.0), 0.5 * length)
        worst = float((residual.norm(dim=1) / allowed).max()) * self.tol
        if worst > self.tol:
            warnings.warn(
                f"the c-transform spent {self.steps} ascents at a relative residual of {worst:.2g}, above `tol` "
                f"{self.tol:.2g}; raise `steps`, `tol` or `eta`",
                BudgetWarning,
                stacklevel=4,
            )
        return x.view_as(y)

    def _ascent(
        self, D: nn.Module, x: Tensor, y: Tensor, like: Tensor, given: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            gain = D(x.view_as(like), *given).reshape(len(x)) - 0.5 * self.eta * (x - y).square().sum(1)
            (gradient,) = torch.autograd.grad(gain.sum(), x)
        return gain.detach(), gradient
