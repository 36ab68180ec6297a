"""The networks of the theory: generators that are linear in features, two-layer discriminators, and a plain MLP.

Generators map latents (n, k) to samples (n, d); discriminators map samples (n, d) to raw outputs (n,).
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from saddlegan import checks
from saddlegan.errors import InputError
from saddlegan.networks._fourier import FourierFeatures, MultiscaleFeatures

Activation = Literal["linear", "quadratic", "polynomial", "relu"]


class LinearGenerator(nn.Module):
    """G(z) = z W + mean, the paper's linear generator.

    Args:
        n_latent: k, the length of a latent.
        n_features: d, the length of a sample.
        generator: source of the initial weights; torch's global one if None.
        dtype: of the parameters.
        device: of the parameters.

    References:
        [S22] section 3; `saddlegan.fit.QuadraticWGAN` finds its optimum, equation (2).

    Example:
        >>> LinearGenerator(2, 5)(torch.zeros(3, 2)).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        n_latent: int,
        n_features: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        n_latent, n_features = checks.count("n_latent", n_latent), checks.count("n_features", n_features)
        weight = torch.randn(n_latent, n_features, generator=generator, dtype=dtype, device=device)
        self.weight = nn.Parameter(weight / math.sqrt(n_latent))
        self.mean = nn.Parameter(torch.zeros(n_features, dtype=dtype, device=device))

    @property
    def n_latent(self) -> int:
        """Length of a latent vector."""
        return self.weight.shape[0]

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.weight + self.mean

    def moments(self) -> tuple[Tensor, Tensor]:
        """Population mean (d,) and factor F (k, d) with Cov G(z) = F^T F, for z ~ N(0, I)."""
        return self.mean, self.weight


class FeatureGenerator(nn.Module):
    """G(z) = (phi(z) - offset) W + mean for a fixed feature map phi.

    Args:
        features: phi, a module or callable from latents (n, n_latent) to features (n, k).
        weight: W (k, d).
        mean: (d,).
        offset: (k,), subtracted from the features; the features' mean if samples are to have mean `mean`.
        feature_mean: E phi (k,).
        feature_covariance: Cov phi (k, k).
        n_latent: length of a latent.

    References:
        Theory 1.2: the features' population moments make `W` exact for every draw of latents.
    """

    offset: Tensor
    feature_mean: Tensor
    feature_covariance: Tensor

    def __init__(
        self,
        features: nn.Module | Callable[[Tensor], Tensor],
        *,
        weight: Tensor,
        mean: Tensor,
        offset: Tensor,
        feature_mean: Tensor,
        feature_covariance: Tensor,
        n_latent: int,
    ) -> None:
        super().__init__()
        self.features = features
        self.weight = nn.Parameter(weight)
        self.mean = nn.Parameter(mean)
        self.n_latent = checks.count("n_latent", n_latent)
        self.register_buffer("offset", offset)
        self.register_buffer("feature_mean", feature_mean)
        self.register_buffer("feature_covariance", feature_covariance)

    def forward(self, z: Tensor) -> Tensor:
        return (self.features(z) - self.offset) @ self.weight + self.mean

    def moments(self) -> tuple[Tensor, Tensor]:
        """Population mean (d,) and factor F (k, d) with Cov G(z) = F^T F, as far as the features' moments are exact."""
        values, vectors = torch.linalg.eigh(self.feature_covariance)
        root = values.clamp_min(0).sqrt()[:, None] * vectors.T
        return self.mean + (self.feature_mean - self.offset) @ self.weight, root @ self.weight


class AbstractFeatures(nn.Module, abc.ABC):
    """A feature map phi from latents (n, n_latent) to (n, k) that knows its own moments for z ~ N(0, I)."""

    @abc.abstractmethod
    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the exact mean (k,) and covariance (k, k)."""


class ReLUFeatures(AbstractFeatures):
    """Random ReLU features phi_j(z) = sqrt(2) (a_j^T z)_+ with rows a_j uniform on the unit sphere.

    The first layer of the paper's two-layer ReLU generator; its moments for z ~ N(0, I) are known in closed form (the
    arc-cosine kernel), so no latents need be drawn to solve the second layer.

    Args:
        n_latent: length of a latent.
        n_features: k, the number of neurons.
        generator: source of randomness.
    """

    directions: Tensor

    def __init__(self, n_latent: int, n_features: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        n_latent, n_features = checks.count("n_latent", n_latent), checks.count("n_features", n_features)
        directions = torch.randn(n_features, n_latent, generator=generator, dtype=torch.float64)
        self.register_buffer("directions", nn.functional.normalize(directions))

    def forward(self, z: Tensor) -> Tensor:
        return math.sqrt(2.0) * torch.relu(z @ self.directions.T.to(z))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Exact mean (k,) and covariance (k, k) for z ~ N(0, I): Cho and Saul's arc-cosine kernel of order one."""
        A = self.directions
        cosine = (A @ A.T).clamp(-1.0, 1.0)
        angle = torch.arccos(cosine)
        second = (torch.sin(angle) + (math.pi - angle) * cosine) / math.pi
        second.fill_diagonal_(1.0)
        mean = torch.full((A.shape[0],), 1.0 / math.sqrt(math.pi), dtype=A.dtype, device=A.device)
        return mean, second - torch.outer(mean, mean)


class PolynomialFeatures(AbstractFeatures):
    """Orthonormal Hermite polynomials of total degree 1 to `degree` in the latents: mean 0 and covariance I exactly.

    Args:
        n_latent: length of a latent.
        degree: highest total degree.

    Example:
        >>> PolynomialFeatures(2, degree=2)(torch.zeros(1, 2)).shape  # z1, z2, z1 z2 and the two squares
        torch.Size([1, 5])
    """

    def __init__(self, n_latent: int, *, degree: int = 2) -> None:
        super().__init__()
        n_latent, degree = checks.count("n_latent", n_latent), checks.count("degree", degree)
        self.degree = degree
        self.powers = [
            tuple(combination.count(i) for i in range(n_latent))
            for total in range(1, degree + 1)
            for combination in itertools.combinations_with_replacement(range(n_latent), total)
        ]

    def forward(self, z: Tensor) -> Tensor:
        ladder = [torch.ones_like(z), z]  # probabilists' Hermite polynomials He_0, He_1, ...
        for order in range(1, self.degree):
            ladder.append(z * ladder[order] - order * ladder[order - 1])
        scaled = torch.stack([He / math.sqrt(math.factorial(order)) for order, He in enumerate(ladder)])
        columns = [torch.stack([scaled[p, :, i] for i, p in enumerate(power) if p]).prod(0) for power in self.powers]
        return torch.stack(columns, dim=1)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Exact mean 0 and covariance I for z ~ N(0, I)."""
        k = len(self.powers)
        return torch.zeros(k, dtype=torch.float64), torch.eye(k, dtype=torch.float64)


class TwoLayerDiscriminator(nn.Module):
    """D(x) = sum_j v_j s((x - center)^T u_j + b_j), the discriminator of the theory; b = 0 unless `bias`.

    Args:
        n_features: d, the length of a sample.
        n_neurons: number of neurons.
        activation: s: "linear" t, "quadratic" t^2, "polynomial" a t^2 + b t + c with u_j scaled to norm 1 in the
            forward pass, "relu" (t)_+.
        a: coefficient of t^2 (polynomial only).
        b: coefficient of t (polynomial only).
        c: constant (polynomial only).
        bias: whether the neurons have biases b_j, free of the norm bound (theory 1.4, one dimension).
        generator: source of the initial directions; torch's global one if None.
        dtype: of the parameters.
        device: of the parameters.

    References:
        [S22] equation (1) of the theory; ||u_j||_2 <= 1 and beta * sum |v_j| equals weight decay for homogeneous s.

    Example:
        >>> D = TwoLayerDiscriminator(3, 2, activation="quadratic")
        >>> D(torch.zeros(4, 3)).shape
        torch.Size([4])
    """

    center: Tensor
    bias: nn.Parameter | None

    def __init__(
        self,
        n_features: int,
        n_neurons: int,
        *,
        activation: Activation = "quadratic",
        a: float = 1.0,
        b: float = 1.0,
        c: float = 0.0,
        bias: bool = False,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if activation not in ("linear", "quadratic", "polynomial", "relu"):
            raise InputError(f"`activation` must be 'linear', 'quadratic', 'polynomial' or 'relu', got {activation!r}")
        self.activation: Activation = activation
        self.a, self.b, self.c = (
            checks.number(name, value, least=-math.inf) for name, value in (("a", a), ("b", b), ("c", c))
        )
        n_features, n_neurons = checks.count("n_features", n_features), checks.count("n_neurons", n_neurons)
        directions = torch.randn(n_neurons, n_features, generator=generator, dtype=dtype, device=device)
        self.directions = nn.Parameter(nn.functional.normalize(directions))
        self.outer = nn.Parameter(torch.zeros(n_neurons, dtype=dtype, device=device))
        self.bias = nn.Parameter(torch.zeros(n_neurons, dtype=dtype, device=device)) if bias else None
        self.register_buffer("center", torch.zeros(n_features, dtype=dtype, device=device))

    def forward(self, x: Tensor) -> Tensor:
        U = self.directions
        if self.activation == "polynomial":
            U = nn.functional.normalize(U)
        t = (x - self.center) @ U.T
        if self.bias is not None:
            t = t + self.bias
        if self.activation == "quadratic":
            t = t.square()
        elif self.activation == "relu":
            t = torch.relu(t)
        elif self.activation == "polynomial":
            t = self.a * t.square() + self.b * t + self.c
        return t @ self.outer

    def path_norm(self) -> Tensor:
        """Return sum_j |v_j| ||u_j||^p with p the degree of s: the penalty that the theory puts beta in front of."""
        if self.activation == "polynomial":
            return self.outer.abs().sum()
        degree = 2 if self.activation == "quadratic" else 1
        return (self.outer.abs() * self.directions.norm(dim=1) ** degree).sum()


_MLP_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": lambda: nn.LeakyReLU(0.2),
    "softplus": lambda: nn.Softplus(beta=4.0),
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class MLP(nn.Sequential):
    """A plain multi-layer perceptron.

    Args:
        n_in: input width.
        n_out: output width.
        hidden: widths of the hidden layers.
        activation: "relu", "leaky-relu" (slope 0.2), "softplus" (beta 4), "silu" or "tanh". Proximal work with the
            Sobolev norm needs a smooth one.
        fourier: scale of random Fourier features before the first layer, see `FourierFeatures`; a pair (low, high) for
            several scales at once, see `MultiscaleFeatures`; 0 for none.

    Example:
        >>> MLP(2, 1, hidden=(8, 8), activation="silu")(torch.zeros(3, 2)).shape
        torch.Size([3, 1])
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "leaky-relu",
        fourier: float | Sequence[float] = 0.0,
    ) -> None:
        if activation not in _MLP_ACTIVATIONS:
            raise InputError(f"`activation` must be one of {', '.join(_MLP_ACTIVATIONS)}, got {activation!r}")
        n_in, n_out = checks.count("n_in", n_in), checks.count("n_out", n_out)
        hidden = [checks.count("hidden", width) for width in hidden]
        layers: list[nn.Module] = []
        features: FourierFeatures | MultiscaleFeatures | None = None
        if isinstance(fourier, Sequence):
            if len(fourier) != 2:
                raise InputError(f"`fourier` must be a number or a pair (low, high), got {fourier!r}")
            features = MultiscaleFeatures(n_in, low=fourier[0], high=fourier[1])
        elif scale := checks.number("fourier", fourier):
            features = FourierFeatures(n_in, scale=scale)
        if features is not None:
            layers.append(features)
            n_in = features.n_out
        widths = [n_in, *hidden]
        for wide, narrow in itertools.pairwise(widths):
            layers += [nn.Linear(wide, narrow), _MLP_ACTIVATIONS[activation]()]
        super().__init__(*layers, nn.Linear(widths[-1], n_out))
