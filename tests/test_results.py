import json
import math

import numpy as np
import pytest
import torch

import saddlegan
from saddlegan import Certificate, Solution, Status, Step
from saddlegan.errors import InputError, MissingExtraError, SolveError
from saddlegan.results import Discrepancy, as_dict


def certificate(**changes):
    fields = {
        "kind": "nash",
        "gap": -0.1,
        "generator_gain": 0.0,
        "discriminator_gain": -0.1,
        "bound": "lower",
        "verdict": "not refuted",
        "standard_error": 0.01,
        "status": Status.SETTLED,
    }
    return Certificate(**{**fields, **changes})


def test_certificate_cannot_claim_a_proof_from_a_search():
    with pytest.raises(InputError, match="only refute"):
        certificate(verdict="proved")
    assert certificate(verdict="proved", bound="exact").verdict == "proved"


def test_certificate_refuses_unknown_words():
    with pytest.raises(InputError, match="`bound`"):
        certificate(bound="upper")
    with pytest.raises(InputError, match="`verdict`"):
        certificate(verdict="maybe")


def test_gap_keeps_its_sign():
    assert certificate().gap == -0.1


@pytest.mark.parametrize(
    "result",
    [
        Solution(1.0, 1.0, 0.0, Status.OPTIMAL, {"curve": np.arange(3), "nan": math.nan}),
        Step(1.0, 2.0, 3.0, {"t": torch.ones(2)}),
        certificate(stats={"inner": Solution(1.0, 1.0, 0.0, Status.OPTIMAL)}),
        Discrepancy(1.0, 1.0, np.ones(3), True),
    ],
)
def test_results_are_frozen_one_line_and_plain_json(result):
    with pytest.raises(AttributeError):
        result.value = 2.0
    assert "\n" not in repr(result)
    again = json.loads(json.dumps(as_dict(result), allow_nan=False))
    assert set(again) >= {name for name in ("value", "stats", "witness") if hasattr(result, name)}


def test_status_says_what_to_do():
    assert "raise `steps`" in Status.BUDGET_SPENT.value
    assert as_dict(Solution(0.0, 0.0, 0.0, Status.BUDGET_SPENT))["message"] == Status.BUDGET_SPENT.value


def test_errors_carry_what_a_user_needs():
    assert "pip install 'saddlegan[convex]'" in str(MissingExtraError("cvxpy", "convex"))
    solution = Solution(0.0, 0.0, 0.0, Status.FAILED)
    assert SolveError("no", solution).result is solution


def test_public_names_exist_and_are_few():
    assert len(saddlegan.__all__) <= 14
    for module in (saddlegan, saddlegan.fit, saddlegan.train, saddlegan.certify, saddlegan.networks):
        for name in getattr(module, "__all__", []):
            assert getattr(module, name) is not None
