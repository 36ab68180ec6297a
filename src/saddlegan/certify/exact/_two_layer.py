"""Theory 1: the Wasserstein game of two-layer discriminators and generators with known moments, solved exactly."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from saddlegan.certify.exact._base import AbstractExactGame
from saddlegan.game import Game, PathNormPenalty, SecondMomentPenalty
from saddlegan.moments._second_moment import AbstractSecondMoment, floating, second_moment
from saddlegan.moments._trust_region import minimise
from saddlegan.networks import AbstractFeatures, FeatureGenerator, LinearGenerator, TwoLayerDiscriminator
from saddlegan.objectives import WASSERSTEIN

# Backward error of an eigenproblem, or of a sum of squares, relative to its largest eigenvalue: a small multiple of d
# units in the last place. Larger, and one large column would hide the components beside it.
ROUNDING = 2.0**-44
STORED = 1e-5  # the same for weights or data that are kept in single precision

DENSE = 2048  # the polynomial witness needs all eigenpairs of a d x d matrix


@dataclasses.dataclass(frozen=True)
class _Quadratic:
    """D(x) = y^T Lambda y + l^T y + const with y = x - c, Lambda = U^T diag(v) U, and the penalty it pays."""

    U: Tensor  # (k, d)
    v: Tensor  # (k,), zero for a linear discriminator
    linear: Tensor  # l (d,)
    penalty: float

    def eigenpairs(self) -> tuple[Tensor, Tensor]:
        """Nonzero eigenvalues of Lambda and an orthonormal basis (d, k) of its range."""
        Q, R = torch.linalg.qr(self.U.T)
        values, P = torch.linalg.eigh((R * self.v) @ R.T)
        return values, Q @ P


class TwoLayerGame(AbstractExactGame):
    """V = tr(Lambda (M_X - M_G)) + l^T (mu_X - mu_G) + E ||G - c||^2 - beta * path norm, in population moments of G.

    max over D is R_g(G) where the constraint (1) holds and infinite where not; min over G is a quadratic program,
    bounded where Lambda <= I. Linear, quadratic and polynomial activations.

    Args:
        moment: second moment of the data about the discriminator's centre.
        data_mean: mean of the data less that centre (d,).
        mean: mean of the generator less that centre (d,).
        factor: F (k, d) with Cov G = F^T F.
        rank: rank that the generator's covariance can have.
        offset: centre of R_g less the discriminator's centre (d,).
        D: the discriminator.
        beta: weight of the path norm.
        relative: relative error of the pair: `ROUNDING`, or `STORED` where weights or data are in single precision.

    References:
        [S22]; theory, equation (1) and sections 1.1 to 1.3.
    """

    def __init__(
        self,
        moment: AbstractSecondMoment,
        data_mean: Tensor,
        *,
        mean: Tensor,
        factor: Tensor,
        rank: int,
        offset: Tensor,
        D: TwoLayerDiscriminator,
        beta: float,
        relative: float,
    ) -> None:
        self._moment, self._data_mean, self._mean, self._factor = moment, data_mean, mean, factor
        self._rank, self._offset, self._beta, self._relative = rank, offset, beta, relative
        self._activation, self._a, self._b = D.activation, D.a, D.b
        self._form = _form(D, beta)
        self._scale = float(moment.eigenpairs(1).values[0])

    @classmethod
    def read(cls, game: Game, X: Tensor) -> Self | None:
        G, D = game.G, game.D
        R_g, R_d = game.generator_penalty, game.discriminator_penalty
        if game.has_own_value or game.rows_in_groups > 1:
            return None
        if game.objective is not WASSERSTEIN or type(D) is not TwoLayerDiscriminator or D.activation == "relu":
            return None
        if not (isinstance(R_g, SecondMomentPenalty) and isinstance(R_d, PathNormPenalty)):
            return None
        if type(R_g) is not SecondMomentPenalty or type(R_d) is not PathNormPenalty:  # a subclass may be another value
            return None
        if type(G) is LinearGenerator:
            if game.latent != G.n_latent:
                return None
            rank = min(G.weight.shape)
        elif type(G) is FeatureGenerator and isinstance(G.features, AbstractFeatures):
            if game.latent != G.n_latent or not _moments_agree(G, G.features):
                return None
            spectrum = torch.linalg.eigvalsh(G.feature_covariance.double())
            rank = int((spectrum > 1e-12 * spectrum.max()).sum())
        else:
            return None
        # the class of each player is what its trainable parameters reach: a frozen weight would make it smaller, and
        # trainable features larger
        trainable = {id(p) for p in (*G.parameters(), *D.parameters()) if p.requires_grad}
        if trainable != {id(p) for p in (G.weight, G.mean, *D.parameters())}:
            return None
        if X.ndim != 2 or (D.activation == "polynomial" and X.shape[1] > DENSE):
            return None
        with torch.no_grad():
            center = D.center.detach().to(X.device, torch.float64)
            mean, factor = (part.detach().to(center) for part in G.moments())
            exact = torch.float64 == floating(X) == G.weight.dtype == D.outer.dtype
            Y = X.double() - center
            return cls(
                second_moment(Y, center=False),
                Y.mean(0),
                mean=mean - center,
                factor=factor,
                rank=rank,
                offset=R_g.center.detach().to(center) - center,
                D=D,
                beta=R_d.beta,
                relative=ROUNDING if exact else STORED,
            )

    @functools.cached_property
    def _regulariser(self) -> float:
        return float(self._factor.square().sum() + (self._mean - self._offset).square().sum())

    @property
    def value(self) -> float:
        return self._value

    @functools.cached_property
    def _value(self) -> float:
        form = self._form
        data = (form.v * (self._moment.matvec(form.U) * form.U).sum(1)).sum()
        spread = (form.U @ self._factor.T).square().sum(1) + (form.U @ self._mean).square()
        difference = data - (form.v * spread).sum() + form.linear @ (self._data_mean - self._mean)
        return float(difference) + self._regulariser - form.penalty

    @functools.cached_property
    def _discrepancy(self) -> float:
        """The left side of the constraint (1)."""
        delta = self._data_mean - self._mean
        if self._activation == "linear":
            return float(delta.norm())
        factor = torch.cat([self._factor, self._mean[None]])
        if self._activation == "quadratic":
            return self._moment.spectral_distance(factor)
        identity = torch.eye(len(delta), dtype=delta.dtype, device=delta.device)
        Delta = self._a * (self._moment.matvec(identity) - factor.T @ factor).cpu().numpy()
        half = 0.5 * self._b * delta.cpu().numpy()
        return max(-minimise(sign * Delta, sign * half, radius=1.0, sphere=True).bound for sign in (1.0, -1.0))

    @property
    def best_discriminator_value(self) -> float:
        feasible = self._discrepancy - self._beta <= self._relative * self._unit
        return self._regulariser if feasible else math.inf

    @property
    def best_generator_value(self) -> float:
        return self._best_generator_value

    @functools.cached_property
    def _best_generator_value(self) -> float:
        form = self._form
        data = (form.v * (self._moment.matvec(form.U) * form.U).sum(1)).sum() + form.linear @ self._data_mean
        constant = float(data) - form.penalty + float(self._offset.square().sum())
        values, basis = form.eigenpairs()
        if float(values.max()) > 1.0 + self._relative:
            return -math.inf
        pull = 2.0 * self._offset + form.linear  # the mean y minimises y^T (I - Lambda) y - pull^T y
        inside = basis.T @ pull
        outside = float((pull - basis @ inside).square().sum())
        room = 1.0 - values
        flat = room <= self._relative
        # in the data's units, since a slope is one
        if bool((inside[flat].abs() > self._relative * (math.sqrt(self._scale) + float(pull.norm()))).any()):
            return -math.inf
        bent = float((inside[~flat].square() / room[~flat]).sum())
        return constant - 0.25 * (bent + outside)

    @property
    def stackelberg_value(self) -> float | None:
        return self._stackelberg_value

    @functools.cached_property
    def _stackelberg_value(self) -> float | None:
        if float(self._offset.abs().max()) > 0 or self._activation == "polynomial":
            return None
        if self._activation == "linear":
            return max(float(self._data_mean.norm()) - self._beta, 0.0) ** 2
        values = self._moment.eigenpairs(self._rank + 1).values
        if len(values) > self._rank and float(values[self._rank]) > self._beta + self._relative * self._scale:
            return None
        return float((values[: self._rank] - self._beta).clamp_min(0).sum())

    @property
    def _unit(self) -> float:
        return max(self._scale, 1e-300) if self._activation != "linear" else max(math.sqrt(self._scale), 1e-300)

    @property
    def tolerance(self) -> float:
        return self._relative * self._size

    @property
    def _size(self) -> float:
        return self._scale * max(1, self._rank) + abs(self._regulariser) + self._form.penalty

    @property
    def provable(self) -> bool:
        # single precision explains much: what is within its error only is neither proved nor refuted
        curvature = float(self._form.eigenpairs()[0].max()) - 1.0
        gains = max(abs(self.discriminator_gain), abs(self.generator_gain))
        return (
            self._discrepancy - self._beta <= ROUNDING * self._unit
            and curvature <= ROUNDING
            and gains <= ROUNDING * self._size
        )

    @property
    def stats(self) -> Mapping[str, Any]:
        values, _ = self._form.eigenpairs()
        return {
            "method": f"exact best responses of a two-layer {self._activation} discriminator; moments of `data`",
            "discrepancy": self._discrepancy,
            "beta": self._beta,
            "constraint_residual": self._discrepancy - self._beta,
            "constraint_tolerance": self._relative * self._unit,
            "curvature_residual": float(values.max()) - 1.0,
        }


def _form(D: TwoLayerDiscriminator, beta: float) -> _Quadratic:
    with torch.no_grad():
        U, v = D.directions.detach().double(), D.outer.detach().double()
        none = torch.zeros_like(U[0])
        if D.activation == "linear":
            return _Quadratic(U, torch.zeros_like(v), v @ U, beta * float((v.abs() * U.norm(dim=1)).sum()))
        if D.activation == "quadratic":
            return _Quadratic(U, v, none, beta * float((v.abs() * U.square().sum(1)).sum()))
        U = torch.nn.functional.normalize(U)
        return _Quadratic(U, D.a * v, D.b * (v @ U), beta * float(v.abs().sum()))


def _moments_agree(G: FeatureGenerator, features: AbstractFeatures) -> bool:
    """Whether the generator's moments are its features' exact ones rather than estimates or leftovers."""
    kept = (G.feature_mean, G.feature_covariance)
    tolerance = 1e-9 if G.weight.dtype == torch.float64 else 1e-5
    return all(
        mine.shape == exact.shape and np.allclose(mine.double().cpu(), exact.double().cpu(), atol=tolerance)
        for mine, exact in zip(kept, features.moments(), strict=True)
    )
