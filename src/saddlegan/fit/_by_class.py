"""One solved model per label: a meta-estimator over any of the solvers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import ClassifierTags, _safe_indexing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, has_fit_parameter
from torch import Tensor

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError, InputTypeError
from saddlegan.fit._base import AbstractWGAN, like, read_data
from saddlegan.fit._discrepancy import moment_discrepancy
from saddlegan.fit._saved import Savable
from saddlegan.fit._sums import read_weights
from saddlegan.fit.progressive._estimator import ProCoGAN
from saddlegan.networks import MixtureGenerator
from saddlegan.results import Discrepancy, Solution


def _has_density(by_class: ByClass) -> bool:
    return hasattr(by_class.estimator, "score_samples")


class ByClass(Savable, MetaEstimatorMixin, BaseEstimator):
    """One solved model per label, and Bayes' rule where they have a density.

        p(x, y) = pi_y p_y(x),    pi_y = n_y / n,    P(y | x) = pi_y p_y(x) / sum over labels l of pi_l p_l(x)

    Each model solves its own label's rows and certifies itself; nothing is shared between labels.

    Args:
        estimator: the model to copy for every label, a `QuadraticWGAN`, `LinearWGAN`, `PolynomialWGAN`, `ReLUWGAN` or
            `ProCoGAN`.

    Attributes:
        classes_: the labels (c,), sorted.
        priors_: share of each label among the rows (c,).
        estimators_: one fitted copy of `estimator` per label.
        solutions_: the `Solution` of each: value, bound and gap.

    References:
        [S22] section 4 solves models by attribute; theory 1.2.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from saddlegan.fit import QuadraticWGAN
        >>> X, y = load_digits(return_X_y=True)
        >>> model = ByClass(QuadraticWGAN(n_latent=16)).fit(X, y)
        >>> model.sample(3, y=7, random_state=0).shape
        (3, 64)
        >>> float((model.predict(X) == y).mean()) > 0.95, model.solution(7).status.name
        (True, 'OPTIMAL')
    """

    classes_: np.ndarray
    priors_: np.ndarray
    estimators_: list[Any]
    solutions_: tuple[Solution, ...]

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        if _has_density(self):
            tags.estimator_type = "classifier"  # folds of a cross-validation are then drawn label by label
            tags.classifier_tags = ClassifierTags()
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ByClass:
        """Solve one model for the rows of every label.

        Args:
            X: data (n, d), or square images (n, h, w[, c]) for a `ProCoGAN`, of any kind that `estimator` reads and
                that can be indexed by rows.
            y: labels (n,): whole numbers, words or booleans.
            sample_weight: weight of each row (n,), at least 0, where `estimator` takes weights; the priors are shares
                of the weights then.

        Returns:
            The estimator itself.

        Raises:
            InputError: X or y is unusable, or a label's rows cannot be solved; the message names the label.
            InputTypeError: `estimator` is none of the solvers or takes no weights, or X cannot be indexed.
            SolveError: a label's model was not solved.
        """
        if not isinstance(self.estimator, (AbstractWGAN, ProCoGAN)):
            raise InputTypeError(f"`estimator` must be one of the solvers of saddlegan.fit, got {self.estimator!r}")
        X = self._rows(X, reset=True)
        labels = read_labels(y, len(X))
        self.classes_, codes = np.unique(labels, return_inverse=True)
        shares = read_weights(sample_weight, len(labels))
        weights = None if shares is None else shares.numpy()
        if weights is not None and not has_fit_parameter(self.estimator, "sample_weight"):
            raise InputTypeError(f"`sample_weight` is not taken by {type(self.estimator).__name__}")
        self.priors_ = np.bincount(codes, weights=weights) / (len(labels) if weights is None else 1.0)
        self.estimators_ = []
        for code, label in enumerate(self.classes_):
            rows = np.flatnonzero(codes == code)
            part = X[torch.from_numpy(rows).to(X.device)] if isinstance(X, Tensor) else _safe_indexing(X, rows)
            model: Any = clone(self.estimator)
            try:
                options = {} if weights is None else {"sample_weight": weights[rows]}
                self.estimators_.append(model.fit(part, **options))
            except InputError as error:
                raise InputError(f"the {len(rows)} rows of class {label} cannot be solved: {error}") from error
        self.solutions_ = tuple(estimator.solution_ for estimator in self.estimators_)
        return self

    def _rows(self, X: Any, *, reset: bool) -> Any:
        """Flat data, checked once for all labels; images, which each label's model checks itself."""
        if isinstance(self.estimator, AbstractWGAN):
            return read_data(self, X, reset=reset)
        if isinstance(X, (np.ndarray, Tensor)) and X.ndim in (3, 4):
            return X
        raise InputTypeError(
            f"`X` must be an array or tensor of images (n, h, w[, c]) that can be split by label, got "
            f"{type(X).__name__}"
        )

    def _index(self, label: Any) -> int:
        check_is_fitted(self, "estimators_")
        found = np.flatnonzero(self.classes_ == label)
        if len(found) != 1:
            raise InputError(f"`y` must be one of the labels {', '.join(map(str, self.classes_))}, got {label!r}")
        return int(found[0])

    def __getitem__(self, label: Any) -> Any:
        """Return the fitted model of one label.

        Raises:
            InputError: no such label.
        """
        return self.estimators_[self._index(label)]

    def solution(self, label: Any) -> Solution:
        """Return the certificate of one label's model.

        Raises:
            InputError: no such label.
        """
        return self.solutions_[self._index(label)]

    @property
    def generator_(self) -> MixtureGenerator:
        """All labels' generators as one network, with the labels' shares."""
        check_is_fitted(self, "estimators_")
        return MixtureGenerator([model.generator_ for model in self.estimators_], torch.from_numpy(self.priors_))

    def sample(self, n: int = 1, y: Any = None, random_state: RandomState = None) -> Any:
        """Draw n samples.

        Args:
            n: number of samples.
            y: a label for all of them; n labels, one each; or None to draw labels with their priors.
            random_state: seed, numpy RandomState or Generator, torch.Generator, or None for fresh entropy.

        Returns:
            Samples (n, d), or images (n, h, w, c), of the kind that the training data had.

        Raises:
            InputError: n is not an integer >= 1, y holds an unknown label, or another number of labels than n.
            NotFittedError: `fit` was not called.
        """
        check_is_fitted(self, "estimators_")
        n = checks.count("n", n)
        source = checks.generator(random_state)
        if y is None:
            shares = torch.as_tensor(self.priors_, device=source.device)
            codes = torch.multinomial(shares, n, replacement=True, generator=source).cpu().numpy()
        else:
            wanted = np.asarray(y.cpu() if isinstance(y, Tensor) else y)
            if wanted.ndim > 1 or (wanted.ndim == 1 and len(wanted) != n):
                raise InputError(f"`y` must be one label or {n} labels, got shape {wanted.shape}")
            codes = np.array([self._index(label) for label in np.broadcast_to(wanted, n)])
        drawn = [(np.flatnonzero(codes == code), self.estimators_[code]) for code in np.unique(codes)]
        parts = [torch.as_tensor(model.sample(len(rows), random_state=source)) for rows, model in drawn]
        out = torch.empty((n, *parts[0].shape[1:]), dtype=parts[0].dtype, device=parts[0].device)
        for (rows, _), part in zip(drawn, parts, strict=True):
            out[torch.from_numpy(rows).to(out.device)] = part
        return like(self.estimators_[0].mean_, out)

    def _joint(self, X: Any) -> Tensor:
        """Log of pi_y p_y(x), (n, c), float64 on the CPU."""
        check_is_fitted(self, "estimators_")
        X = self._rows(X, reset=False)
        columns: list[Tensor] = []
        for label, model in zip(self.classes_, self.estimators_, strict=True):
            try:
                columns.append(torch.as_tensor(model.score_samples(X)).cpu().double())
            except InputError as error:
                raise InputError(f"class {label}: {error}") from error
        return torch.stack(columns, 1) + torch.from_numpy(np.log(self.priors_))

    @available_if(_has_density)
    def score_samples(self, X: Any) -> np.ndarray:
        """Log-density of each row under the mixture of all labels, log sum over y of pi_y p_y(x).

        Args:
            X: data (n, d).

        Returns:
            Log-densities (n,), in nats.

        Raises:
            InputError: wrong shape or NaN, or a label's model has no density; the message names it.
        """
        return self._joint(X).logsumexp(1).numpy()

    @available_if(_has_density)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Bayes' rule: P(y | x) for every label (n, c), in the order of `classes_`.

        Raises:
            InputError: as for `score_samples`.
        """
        return self._joint(X).softmax(1).numpy()

    @available_if(_has_density)
    def predict(self, X: Any) -> np.ndarray:
        """Return the label of the largest P(y | x) for each row (n,).

        Raises:
            InputError: as for `score_samples`.
        """
        chosen = self._joint(X).argmax(1).numpy()
        return self.classes_[chosen]

    def score(self, X: Any, y: Any = None) -> float:
        """How well the models describe new data; larger is better.

        With densities the mean of `score_samples`, the log-density of the mixture, and y is ignored (accuracy is
        `sklearn.metrics.accuracy_score` of `predict`). Without, minus the mean over rows of their own label's
        discrepancy: each label's `score` on its own rows, weighted by their number.

        Args:
            X: data (n, d).
            y: labels (n,); needed where there are no densities.

        Raises:
            InputError: unusable data, a label that `fit` did not see, or no labels where they are needed.
        """
        if _has_density(self):
            return float(self.score_samples(X).mean())
        check_is_fitted(self, "estimators_")
        X = self._rows(X, reset=False)
        if y is None:
            raise InputError("`y` must be given: without densities each label's rows are compared with its own model")
        labels = read_labels(y, len(X))
        total = 0.0
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            total += len(rows) * self[label].score(X[torch.from_numpy(rows)] if isinstance(X, Tensor) else X[rows])
        return total / len(labels)

    def discrepancy(self, first: Any, second: Any, *, kind: str = "quadratic", center: bool = False) -> Discrepancy:
        """How far two labels' models are apart, and the direction in which they differ most.

            linear: ||mu_a - mu_b||_2        quadratic: ||M_a - M_b||_2, the spectral norm

        Computed from the generators' population moments, without drawing samples. The witness has the shape of a row of
        data: seen as a picture, it is what tells the two labels apart.

        Args:
            first: a label.
            second: another.
            kind: "linear" or "quadratic".
            center: for "quadratic", compare covariances instead of second moments.

        Returns:
            `Discrepancy` with its witness (d,).

        Raises:
            InputError: no such label or kind.
        """
        models = [self[label] for label in (first, second)]
        moments = [model.generator_.moments() for model in models]
        found = moment_discrepancy(*moments, kind=kind, center=center)
        return Discrepancy(found.value, found.upper, like(models[0].mean_, found.witness), found.exact)


def read_labels(y: Any, n: int) -> np.ndarray:
    """Check labels and return them as an array (n,).

    Raises:
        InputError: none, not one per row, NaN, or real numbers that are no labels.
    """
    if y is None:
        # scikit-learn's own words, which its checks look for
        raise InputError("`y` must be given: this estimator requires y to be passed, but the target y is None")
    try:
        labels = column_or_1d(y.detach().cpu().numpy() if isinstance(y, Tensor) else y, warn=True)
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise ValueError("contains NaN or infinity; every row needs a label")
        check_classification_targets(labels)
    except ValueError as error:
        raise InputError(f"`y`: {error}") from error
    if len(labels) != n:
        raise InputError(f"`y` must hold one label per row: {n} rows, {len(labels)} labels")
    return labels
