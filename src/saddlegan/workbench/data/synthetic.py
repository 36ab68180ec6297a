"""Built-in data: real digits, and mixtures whose truth is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from saddlegan.errors import InputError

DEFAULT_SAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What a built-in source makes.

    Attributes:
        X: rows (n, d).
        description: one sentence.
        random: whether the rows were drawn.
        image_shape: (h, w) if they are images.
        value_range: black and white if they are images.
        centers: modes (m, d) of a mixture.
        sd: standard deviation of each mode.
    """

    X: np.ndarray
    description: str
    random: bool = True
    image_shape: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    centers: np.ndarray | None = None
    sd: float | None = None


@dataclasses.dataclass(frozen=True)
class Source:
    """One row of the registry: a line for users, and `make(argument, n_samples, random_state)`."""

    line: str
    make: Callable[[str, int | None, int], Drawn]


def ring(n: int, *, random_state: int, modes: int = 8, radius: float = 1.0, sd: float = 0.01) -> Drawn:
    """Equal mixture of Gaussians on a circle: 8 modes, radius 1, standard deviation 0.01 (the PacGAN protocol)."""
    angle = 2.0 * np.pi * np.arange(modes) / modes
    centers = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return _mixture(centers, sd, n, random_state, f"{modes} Gaussians on a circle of radius {radius:g}, sd {sd:g}")


def grid(n: int, *, random_state: int, side: int = 5, spacing: float = 2.0, sd: float = 0.05) -> Drawn:
    """Equal mixture of Gaussians on a square grid: 5 x 5 at -4, -2, ..., 4, standard deviation 0.05 (PacGAN)."""
    ticks = spacing * (np.arange(side) - (side - 1) / 2)
    centers = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    description = f"{side * side} Gaussians on a grid from {ticks[0]:g} to {ticks[-1]:g}, sd {sd:g}"
    return _mixture(centers, sd, n, random_state, description)


def swiss_roll(n: int, *, random_state: int, noise: float = 0.05) -> Drawn:
    """A two-dimensional spiral: t uniform on [1.5 pi, 4.5 pi], x = t (cos t, sin t) / 7.5, plus Gaussian noise."""
    rng = np.random.default_rng(random_state)
    t = 1.5 * np.pi * (1.0 + 2.0 * rng.random(n))
    X = np.stack([t * np.cos(t), t * np.sin(t)], axis=1) / 7.5
    return Drawn(X + noise * rng.standard_normal((n, 2)), f"a spiral with noise of sd {noise:g}")


def gaussian(n: int, covariance: np.ndarray, *, random_state: int) -> Drawn:
    """A centred Gaussian.

    Args:
        n: number of rows.
        covariance: (d, d), symmetric and positive semidefinite.
        random_state: seed.

    Raises:
        InputError: `covariance` is not a covariance matrix.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    square = covariance.ndim == 2 and covariance.shape[0] == covariance.shape[1] and covariance.size > 0
    if not square or not np.isfinite(covariance).all() or not np.allclose(covariance, covariance.T):
        raise InputError(
            f"`covariance` must be a finite symmetric matrix, got shape {covariance.shape}; "
            "write gaussian:4,1,0.25 for variances or gaussian:2,1;1,3 for a matrix"
        )
    values, vectors = np.linalg.eigh(covariance)
    if values[0] < -1e-12 * max(1.0, values[-1]):
        raise InputError(f"`covariance` must be positive semidefinite, its smallest eigenvalue is {values[0]:g}")
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    X = np.random.default_rng(random_state).standard_normal((n, len(values))) @ root
    return Drawn(X, f"a centred Gaussian in {len(values)} dimensions, total variance {np.trace(covariance):g}")


def _mixture(centers: np.ndarray, sd: float, n: int, random_state: int, description: str) -> Drawn:
    rng = np.random.default_rng(random_state)
    X = centers[rng.integers(len(centers), size=n)] + sd * rng.standard_normal((n, centers.shape[1]))
    return Drawn(X, description, centers=centers, sd=sd)


def _digits(argument: str, n_samples: int | None, random_state: int) -> Drawn:
    del random_state  # real data, nothing is drawn
    _no_argument("digits", argument)
    if n_samples is not None:
        raise InputError("`n_samples` belongs to synthetic sources; digits is read whole")
    from sklearn.datasets import load_digits  # slow to import, needed by this source alone

    X = np.asarray(load_digits(return_X_y=True)[0]) / 16.0
    return Drawn(
        X, "1,797 handwritten digits of 8 x 8 pixels", random=False, image_shape=(8, 8), value_range=(0.0, 1.0)
    )


def _gaussian(argument: str, n_samples: int | None, random_state: int) -> Drawn:
    try:
        rows = [[float(entry) for entry in row.split(",")] for row in (argument or "4,1,0.25").split(";")]
    except ValueError as error:
        raise InputError(f"`source` must be gaussian:VARIANCES or gaussian:ROW;ROW, got {argument!r}") from error
    if len({len(row) for row in rows}) > 1:
        raise InputError(f"the rows of the covariance must have one length, got {argument!r}")
    matrix = np.diag(rows[0]) if len(rows) == 1 else np.array(rows)
    return gaussian(n_samples or DEFAULT_SAMPLES, matrix, random_state=random_state)


def _plane(name: str, draw: Callable[..., Drawn]) -> Callable[[str, int | None, int], Drawn]:
    def make(argument: str, n_samples: int | None, random_state: int) -> Drawn:
        _no_argument(name, argument)
        return draw(n_samples or DEFAULT_SAMPLES, random_state=random_state)

    return make


def _no_argument(name: str, argument: str) -> None:
    if argument:
        raise InputError(f"the source {name!r} takes no argument, got {argument!r}")


SOURCES: dict[str, Source] = {
    "digits": Source("1,797 real handwritten digits, 8 x 8 (scikit-learn)", _digits),
    "ring": Source("2-D mixture: 8 modes on a circle, radius 1, sd 0.01", _plane("ring", ring)),
    "grid": Source("2-D mixture: 25 modes on a 5 x 5 grid, -4 to 4, sd 0.05", _plane("grid", grid)),
    "swiss-roll": Source("2-D spiral", _plane("swiss-roll", swiss_roll)),
    "gaussian": Source("Gaussian with given covariance: gaussian:4,1,0.25 or gaussian:2,1;1,3", _gaussian),
}
