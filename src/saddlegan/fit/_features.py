"""Moments of a feature map phi(z), z ~ N(0, I): exact where phi knows them, else estimated with their error."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from saddlegan.errors import InputError
from saddlegan.networks import AbstractFeatures


@dataclasses.dataclass(frozen=True)
class FeatureMoments:
    """Mean (k,) and E phi phi^T (k, k) of the features, float64."""

    mean: Tensor
    second: Tensor
    half_difference: Tensor | None  # between two independent estimates of `second`; None when the moments are exact


def feature_moments(
    features: nn.Module | Callable[[Tensor], Tensor], n_latent: int, n: int, generator: torch.Generator, like_: Tensor
) -> FeatureMoments:
    """Mean and E phi phi^T of the features, float64: exact where they know them, else from n latents in two halves."""
    if isinstance(features, AbstractFeatures):
        # of the features as they are, rounded to the data's dtype, but computed in float64
        exact: AbstractFeatures = copy.deepcopy(features).double()
        mean, covariance = (moment.to(like_.device, torch.float64) for moment in exact.moments())
        return FeatureMoments(mean, covariance + torch.outer(mean, mean), None)
    means: list[Tensor] = []
    seconds: list[Tensor] = []
    for _ in range(2):
        remaining, total, second = n // 2, torch.zeros(()), torch.zeros(())
        while remaining > 0:
            size = min(remaining, 8192)
            z = torch.randn(size, n_latent, generator=generator, dtype=like_.dtype, device=generator.device)
            with torch.no_grad():
                phi = features(z.to(like_.device))
            if not isinstance(phi, Tensor) or phi.ndim != 2 or len(phi) != size:
                got = tuple(phi.shape) if isinstance(phi, Tensor) else type(phi).__name__
                raise InputError(f"`features` must map latents ({size}, {n_latent}) to ({size}, k), got {got}")
            phi = phi.double()
            total, second = total.to(phi) + phi.sum(0), second.to(phi) + phi.T @ phi
            remaining -= size
        if not bool(torch.isfinite(second).all()):
            raise InputError("`features` returned NaN or infinity")
        means.append(total / (n // 2))
        seconds.append(second / (n // 2))
    mean, second = (means[0] + means[1]) / 2, (seconds[0] + seconds[1]) / 2
    return FeatureMoments(mean, second, (seconds[0] - seconds[1]) / 2)
