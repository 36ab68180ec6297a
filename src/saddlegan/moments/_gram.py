"""The sum of outer products of rows, at the speed of the machine's matrix products; of bytes, exactly."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable

import torch
from torch import Tensor

PANELS = 4  # the Gram matrix is symmetric: compute its lower block triangle, 62.5% of the products
PANEL_SIZE = 1024  # smaller matrices are computed whole
INTEGER_ROWS = 1 << 16  # 2^16 products of two signed bytes stay below 2^31
FLOAT_ROWS = 1 << 10  # 2^10 products of two signed bytes are exact in float32: 2^10 * 2^14 = 2^24


def signed_bytes(block: Tensor) -> Tensor:
    """Shift bytes by -128 into signed bytes."""
    return (block ^ 128).view(torch.int8)


def add_gram(matrix: Tensor, rows: Tensor) -> None:
    """Add sum_i x_i x_i^T of rows (m, d) to a float64 matrix (d, d) in place: its lower triangle, the rest at will.

    Signed bytes are multiplied in integers, or in float32 blocks short enough to be exact, whichever this machine does
    faster: either way their sum has no rounding error and does not depend on the order of the blocks.
    """
    d = rows.shape[1]
    if rows.device.type == "cpu" and not (rows.dtype == torch.int8 and integer_products()):
        for part in rows.split(FLOAT_ROWS) if rows.dtype == torch.int8 else [rows]:
            x = (part.float() if rows.dtype == torch.int8 else part).numpy()
            # numpy sees that both factors are one array and calls BLAS's syrk: half the products, as torch does not
            matrix += torch.from_numpy(x.T @ x)
        return
    # panels compute the lower triangle alone: about half the products of the whole square
    edges = [d * p // PANELS for p in range(PANELS + 1)] if d > PANEL_SIZE else [0, d]
    exact = rows.dtype == torch.int8
    for part in rows.split(INTEGER_ROWS) if exact else [rows]:
        for low, high in itertools.pairwise(edges):
            left, right = part[:, low:high], part[:, :high]
            matrix[low:high, :high] += _byte_product(left, right) if exact else left.T @ right


def symmetrised(matrix: Tensor) -> Tensor:
    """Copy the lower triangle onto the upper one, in place."""
    d = len(matrix)
    step = max(1, d // 16)
    for low in range(0, d, step):
        high = min(low + step, d)
        matrix[:low, low:high] = matrix[low:high, :low].T
        corner = matrix[low:high, low:high]
        corner.copy_(corner.tril() + corner.tril(-1).T)
    return matrix


def _byte_product(left: Tensor, right: Tensor) -> Tensor:
    if left.device.type == "cpu":
        return torch.ops.aten._int_mm(left.T.contiguous(), right)
    total = torch.zeros(left.shape[1], right.shape[1], dtype=torch.float64, device=left.device)
    # products of bytes are whole numbers below 2^24 over so few rows, which float32 holds exactly
    for a, b in zip(left.split(FLOAT_ROWS), right.split(FLOAT_ROWS), strict=True):
        total += a.float().T @ b.float()
    return total


@functools.cache
def integer_products() -> bool:
    """Whether signed bytes are multiplied in 32-bit integers: exactly, and faster than floats, which are exact as well.

    Processors without such an instruction multiply bytes one by one, thirty times slower than floats.
    """
    if not exact_integers():
        return False
    whole = torch.ones(128, 128, dtype=torch.int8)
    floats = whole.float()
    # the symmetric product of floats needs half the multiplications
    return 2 * _least_seconds(lambda: torch.ops.aten._int_mm(whole, whole)) < _least_seconds(lambda: floats @ floats)


def _least_seconds(call: Callable[[], object]) -> float:
    seconds: list[float] = []
    for _ in range(3):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


@functools.cache
def exact_integers() -> bool:
    """Whether this machine can multiply signed bytes into 32-bit integers without the saturation of old processors."""
    extremes = torch.tensor([-128, 127, -128, -127], dtype=torch.int8).repeat(8, 16)
    try:
        product = torch.ops.aten._int_mm(extremes, extremes.T.contiguous())
    except (RuntimeError, AttributeError):
        return False
    return bool((product == extremes.int() @ extremes.T.int()).all())
