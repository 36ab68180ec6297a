"""From data to latents and back, for generators that are linear in a Gaussian latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from saddlegan.errors import InputError
from saddlegan.fit._base import like, plain_tensor
from saddlegan.networks import LinearGenerator

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

    Estimator = BaseEstimator
else:
    Estimator = object


def posterior_mean(centred: Tensor, factor: Tensor, noise: float) -> Tensor:
    """E[z | x] for x = F^T z + e, z ~ N(0, I), e ~ N(0, noise I): (F F^T + noise I)^-1 F x, for rows x (n, d).

    Without noise it is the least-squares latent of least norm.

    Example:
        >>> F = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
        >>> posterior_mean(torch.tensor([[5.0, 1.0]]), F, noise=1.0).tolist()
        [[2.0, 0.0]]
    """
    values, vectors = torch.linalg.eigh(factor @ factor.T)
    spread = values.clamp_min(0) + noise
    # a latent that moves nothing has posterior mean 0, also where there is no noise to divide by
    used = values > len(values) * torch.finfo(values.dtype).eps * values[-1].clamp_min(torch.finfo(values.dtype).tiny)
    inverse = torch.where(used, 1.0 / torch.where(used, spread, torch.ones_like(spread)), torch.zeros_like(spread))
    return ((centred @ factor.T) @ vectors * inverse) @ vectors.T


class LatentMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    """`transform` and `inverse_transform` of an estimator whose generator is G(z) = z F + mean."""

    generator_: Any
    mean_: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _latent_noise(self) -> float:
        """Variance of the isotropic noise that x is taken to have about G(z)."""
        raise NotImplementedError

    def _linear_generator(self) -> LinearGenerator:
        check_is_fitted(self, "generator_")
        if not isinstance(self.generator_, LinearGenerator):
            raise InputError("`features` make the generator non-linear: the latent of a sample has no closed form")
        return self.generator_

    @property
    def _n_features_out(self) -> int:
        return self._linear_generator().n_latent

    def transform(self, X: Any) -> Any:
        """Latents of data: the posterior mean of z where x = G(z) + e.

            E[z | x] = (F F^T + s I)^-1 F (x - mean),    G(z) = z F + mean,    e ~ N(0, s I)

        The noise is what the constraint discards: s = `beta_` (for `PolynomialWGAN` beta / |a|).

        Args:
            X: data (n, d).

        Returns:
            Latents (n, k), of the kind that the training data had.

        Raises:
            InputError: wrong shape or NaN, or the generator is not linear.

        References:
            Tipping and Bishop, Probabilistic Principal Component Analysis, JRSS B 61 (1999), section 3.4.
        """
        G = self._linear_generator()
        factor, mean = G.weight.detach().double(), G.mean.detach().double()
        rows = plain_tensor(self, X).to(mean)
        z = posterior_mean(rows - mean, factor, self._latent_noise())
        return like(self.mean_, z.to(G.weight.dtype))

    def inverse_transform(self, Z: Any) -> Any:
        """Return the samples G(z) (n, d) of latents Z (n, k).

        Raises:
            InputError: wrong shape, or the generator is not linear.
        """
        G = self._linear_generator()
        z = torch.as_tensor(Z)
        if z.ndim != 2 or z.shape[1] != G.n_latent:
            raise InputError(f"`Z` must be latents (n, {G.n_latent}), got shape {tuple(z.shape)}")
        with torch.no_grad():
            return like(self.mean_, G(z.to(G.weight)))
