"""What the estimators share: reading data of any kind, drawing samples, giving results back in the data's own kind."""

from __future__ import annotations

import abc
import math
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor
from torch.utils.data import DataLoader

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError, InputTypeError
from saddlegan.fit._saved import Savable
from saddlegan.game import Game, PathNormPenalty, SecondMomentPenalty
from saddlegan.moments._second_moment import as_tensor
from saddlegan.results import Solution


def read_data(estimator: BaseEstimator, X: Any, *, reset: bool, min_samples: int = 1) -> Any:
    """Check X (n, d) and return it as a tensor, array or memmap, without a copy where its type allows.

    Tensors keep their device; everything else goes through scikit-learn's validation.

    Raises:
        InputError: not two-dimensional, empty, too few rows, complex, or NaN or infinity.
        InputTypeError: a type that cannot be read (a sparse matrix, say).
    """
    if isinstance(X, DataLoader):
        X = checks.rows(X)
    if isinstance(X, np.ma.MaskedArray):
        raise InputError("`X` is a masked array, and a model knows no masks: fill it, or drop the rows with gaps")
    if isinstance(X, Tensor):
        X = X.double() if X.dtype == torch.bool else X
        _check_tensor(estimator, X, reset=reset, min_samples=min_samples)
        return X.detach()
    try:
        X = validate_data(estimator, X, reset=reset, dtype="numeric", ensure_min_samples=min_samples)
    except ValueError as error:
        raise InputError(f"`X`: {error}") from error
    except TypeError as error:
        raise InputTypeError(f"`X`: {error}") from error
    if X.dtype.kind in "uif" and X.dtype.itemsize <= 8:
        return X
    try:  # booleans, long doubles, and the objects that a data frame of several kinds of columns becomes
        with np.errstate(over="ignore"):
            X = X.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"`X` holds what is no number; encode text and categories first: {error}") from error
    if not np.isfinite(X).all():
        raise InputError("`X` contains NaN, or numbers beyond float64; clean it first")
    return X


def _check_tensor(estimator: Any, X: Tensor, *, reset: bool, min_samples: int) -> None:
    if X.ndim != 2:
        raise InputError(f"`X` must have shape (n, d), got {tuple(X.shape)}; reshape images with X.flatten(1)")
    n, d = X.shape
    if n < min_samples or d < 1:
        raise InputError(f"`X` must have at least {min_samples} rows and 1 column, got shape ({n}, {d})")
    if X.is_complex() or X.layout != torch.strided:
        raise InputError(f"`X` must be a dense tensor of real numbers, got {X.dtype} with layout {X.layout}")
    if reset:
        estimator.n_features_in_ = d
    elif estimator.n_features_in_ != d:
        raise InputError(f"`X` has {d} features, but the estimator was fitted with {estimator.n_features_in_}")
    # one number instead of a mask as large as the data; it overflows only where squares do
    if not math.isfinite(float(X.sum(dtype=torch.float64))):
        raise InputError("`X` contains NaN or infinity; clean it first")


def check_beta(beta: object, *, auto: bool) -> float | Literal["auto"]:
    """Read a `beta`: a finite number of at least 0 or, if `auto`, the word "auto"."""
    if auto and isinstance(beta, str) and beta == "auto":
        return "auto"
    try:
        return checks.number("beta", beta)
    except InputError as error:
        raise InputError(str(error).replace(", got", ' or "auto", got') if auto else str(error)) from None


def like(X: Any, value: Tensor) -> Any:
    """Give a tensor back in the kind that X has: a tensor for tensors, a numpy array for everything else."""
    return value.detach() if isinstance(X, Tensor) else value.detach().cpu().numpy()


def plain_tensor(estimator: BaseEstimator, X: Any) -> Tensor:
    """Check new data against a fitted estimator and view them as a tensor."""
    return as_tensor(read_data(estimator, X, reset=False))


def solved_game(G: torch.nn.Module, D: torch.nn.Module, *, origin: Tensor, beta: float, n_latent: int) -> Game:
    """Return the game whose saddle point a solved pair is."""
    return Game(
        G,
        D,
        objective="wasserstein",
        latent=n_latent,
        generator_penalty=SecondMomentPenalty(origin),
        discriminator_penalty=PathNormPenalty(beta),
    )


class AbstractWGAN(Savable, BaseEstimator, abc.ABC):
    """A WGAN whose optimum is solved for.

    Fitted attributes: `beta_`, `mean_`, `components_`, `eigenvalues_`, `generator_`, `discriminator_`, `solution_` and
    `game_`.
    """

    generator_: torch.nn.Module
    discriminator_: torch.nn.Module
    game_: Game
    solution_: Solution
    beta_: float
    mean_: Any
    components_: Any
    eigenvalues_: Any

    @abc.abstractmethod
    def fit(self, X: Any, y: object = None) -> AbstractWGAN:
        """Solve for the optimum; `y` is ignored."""

    @abc.abstractmethod
    def score(self, X: Any, y: object = None) -> float:
        """How well the model describes new data X (n, d), larger is better; `y` is ignored."""

    def _new_data(self, X: Any) -> tuple[Any, tuple[Tensor, Tensor]]:
        """New data, checked and left where they lie, and the generator's population mean and factor, float64."""
        check_is_fitted(self, "generator_")
        moments: Any = self.generator_.moments  # every generator of `fit` knows its own
        mean, factor = (entry.detach().double() for entry in moments())
        return read_data(self, X, reset=False), (mean, factor)

    def _keep(
        self,
        X: Any,
        generator: torch.nn.Module,
        discriminator: torch.nn.Module,
        solution: Solution,
        *,
        beta: float,
        origin: Tensor,
        components: Tensor,
        eigenvalues: Tensor,
        n_latent: int,
    ) -> None:
        """Set the fitted attributes; arrays are given back in the kind that X has."""
        self.generator_ = generator
        self.discriminator_ = discriminator
        self.solution_ = solution
        self.beta_ = beta
        self.mean_ = like(X, origin)
        self.components_ = like(X, components.detach().clone())
        self.eigenvalues_ = like(X, eigenvalues)
        self.game_ = solved_game(generator, discriminator, origin=origin, beta=beta, n_latent=n_latent)

    def _rebuild(self) -> None:
        if hasattr(self, "generator_"):
            G: Any = self.generator_
            origin = torch.as_tensor(self.mean_)
            self.game_ = solved_game(G, self.discriminator_, origin=origin, beta=self.beta_, n_latent=G.n_latent)

    def sample(self, n: int = 1, random_state: RandomState = None) -> Any:
        """Draw n samples from the optimal generator.

        Args:
            n: number of samples.
            random_state: seed, numpy RandomState, torch.Generator, or None for fresh entropy.

        Returns:
            Samples (n, d), an array or tensor as the training data were, in their floating dtype.

        Raises:
            InputError: n is not an integer >= 1.
            NotFittedError: `fit` was not called.
        """
        check_is_fitted(self, "generator_")
        n = checks.count("n", n)
        with torch.no_grad():
            fake = self.generator_(self.game_.sample_latent(int(n), checks.generator(random_state)))
        return like(self.mean_, fake)
