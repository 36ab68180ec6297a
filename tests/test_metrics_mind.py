"""MIND's protocol. Oracle: POT, and a shift in closed form."""

from typing import Any

import numpy as np
import ot
import pytest

from saddlegan import metrics
from saddlegan.errors import InputError


def test_mind_is_three_d_mean_squared_distances_by_pot():
    draw = np.random.default_rng(0)
    x, y = draw.standard_normal((50, 3)), draw.standard_normal((50, 3)) * 2 + 1
    found = metrics.sliced(real=x, generated=y, protocol="mind", projections=40, random_state=5)
    U = np.random.default_rng([5, 1]).standard_normal((3, 40))
    truth: Any = ot.sliced_wasserstein_distance(x, y, projections=U / np.linalg.norm(U, axis=0), p=2)
    assert found.value == pytest.approx(3 * 3 * truth**2, rel=1e-10)
    shift = np.array([1.0, -2.0, 0.5])  # closed form: mean_u (u^T s)^2 = |s|^2 / d
    moved = metrics.sliced(real=x, generated=x + shift, protocol="mind", random_state=0)
    assert moved.stats["projections"] == 1000
    assert moved.value == pytest.approx(3 * shift @ shift, rel=0.1)
    with pytest.raises(InputError, match="one size"):
        metrics.sliced(real=x, generated=y[:40], protocol="mind")
    with pytest.raises(InputError, match="`p` must be 2"):
        metrics.sliced(real=x, generated=y, protocol="mind", p=1)
    with pytest.raises(InputError, match="`protocol` must be one of"):
        metrics.sliced(real=x, generated=y, protocol="fid")
