"""All eigenvalues and a few eigenvectors of a symmetric matrix, from one reduction to tridiagonal form."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import linalg

LAPACK: Any = linalg.lapack  # its functions are made at import, where no type checker sees them
BLOCK = 64  # columns that LAPACK's blocked products take at a time


@dataclasses.dataclass(frozen=True)
class Tridiagonal:
    """A = Q T Q^T with T tridiagonal, and Q as reflectors.

    A whole decomposition forms and turns all eigenvectors, which costs several times as much as the reduction; a few
    are had at the price of a few.

    Attributes:
        reflectors: LAPACK's, below the diagonal (d, d).
        factors: theirs (d - 1,).
        diagonal: of T (d,).
        beside: its other diagonal (d - 1,).
    """

    reflectors: np.ndarray
    factors: np.ndarray
    diagonal: np.ndarray
    beside: np.ndarray

    def values(self) -> np.ndarray:
        """All eigenvalues (d,), ascending."""
        found: Any = linalg.eigvalsh_tridiagonal(self.diagonal, self.beside)
        return found

    def leading(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k largest eigenvalues, descending, and their eigenvectors in rows (k, d).

        Raises:
            LinAlgError: LAPACK did not converge.
        """
        d = len(self.diagonal)
        found: Any = linalg.eigh_tridiagonal(self.diagonal, self.beside, select="i", select_range=(d - k, d - 1))
        values, vectors = found
        # the reflectors leave the first coordinate alone
        below = np.asfortranarray(self.reflectors[1:, :-1])
        turned, _, _ = LAPACK.dormqr("L", "N", below, self.factors, np.asfortranarray(vectors[1:]), BLOCK * max(1, k))
        return values[::-1].copy(), np.vstack([vectors[:1], turned]).T[::-1].copy()


def reduce(matrix: np.ndarray) -> Tridiagonal:
    """Reduce a symmetric matrix (d, d), float64, d >= 2.

    Example:
        >>> found = reduce(np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 5.0]]))
        >>> found.values().round(12).tolist(), abs(found.leading(1)[1]).round(12).tolist()
        ([1.0, 3.0, 5.0], [[0.0, 0.0, 1.0]])
    """
    length = int(LAPACK.dsytrd_lwork(len(matrix), lower=1)[0])
    reflectors, diagonal, beside, factors, _ = LAPACK.dsytrd(matrix, lower=1, lwork=length)
    return Tridiagonal(reflectors, factors, diagonal, beside)
