import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import saddlegan
from saddlegan import Certificate, Solution, Status, Step, certify, metrics
from saddlegan.errors import InputError, MissingExtraError, SolveError
from saddlegan.results import Discrepancy, as_dict, from_dict


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
    assert as_dict(from_dict(type(result), again)) == again


#: one of each result that holds numbers, words and results only; it comes back equal
PLAIN = [
    Solution(1.0, -math.inf, math.inf, Status.FEASIBLE, {"rounds": 3, "bounds": [math.inf, 1.0], "note": "none"}),
    Step(1.0, 2.0, 3.0, {"density": 0.5}),
    certificate(upper=2.0, stats={"curves": {"generator": [[1, 0.5]]}}),
    Discrepancy(1.0, math.inf, [0.0, 1.0], False),
    certify.Spectrum((0.0, math.inf), (certificate(), certificate()), 0.0, math.inf, False, "so", {}, ((0.0, 1.0),)),
    certify.GradientNorms(0.5, 0.25),
    certify.PathAngle((0.0, 1.0), (0.5, -0.5), (1.0, 2.0)),
    certify.Diagnosis(("collapse",), ("The pair collapsed.",), {"modes": 1.0}, {"nash": certificate()}),
    metrics.Measurement(1.0, 0.5, 0.1, {"better": "lower"}),
    metrics.ModeMetrics(8, 8, 0.9, 0.98, 0.1, 1.0),
]


@pytest.mark.parametrize("result", PLAIN, ids=lambda result: type(result).__name__)
def test_results_come_back_from_json(result):
    assert from_dict(type(result), json.loads(json.dumps(as_dict(result), allow_nan=False))) == result


def test_every_result_comes_back():
    rooms = [saddlegan, saddlegan.fit, saddlegan.train, certify, metrics]
    public = [getattr(room, name) for room in rooms for name in room.__all__]
    results = {each for each in public if isinstance(each, type) and dataclasses.is_dataclass(each)}
    # settings that are handed in, a network beside its solution, rows of a history and pictures
    others = {certify.Search, saddlegan.fit.TwoLayerFit, metrics.Tracked}
    others |= {each for each in results if each.__name__.endswith("Display")}
    assert results - others == {type(each) for each in PLAIN} - {Discrepancy}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gap": "wide"}, "Solution.gap must be of type float, got 'wide'"),
        ({"gap": True}, "Solution.gap must be of type float, got True"),
        ({"status": "BEST"}, "Solution.status must be of type Status"),
        ({"stats": [1]}, "Solution.stats"),
        ({"colour": 1}, "unknown field 'colour'"),
        ({"bound": None}, "Solution.bound"),
    ],
)
def test_damaged_results_are_refused_by_name(change, said):
    entries = as_dict(Solution(1.0, 1.0, 0.0, Status.OPTIMAL))
    with pytest.raises(InputError, match=said):
        from_dict(Solution, {**entries, **change})
    del entries["value"]
    with pytest.raises(InputError, match="missing 'value'"):
        from_dict(Solution, entries)


def test_status_says_what_to_do():
    assert "raise `steps`" in Status.BUDGET_SPENT.value
    assert as_dict(Solution(0.0, 0.0, 0.0, Status.BUDGET_SPENT))["message"] == Status.BUDGET_SPENT.value


def test_errors_carry_what_a_user_needs():
    assert "pip install 'clarabel>=0.9' 'cvxpy>=" in str(MissingExtraError("cvxpy", "convex"))
    solution = Solution(0.0, 0.0, 0.0, Status.FAILED)
    assert SolveError("no", solution).result is solution


def test_public_names_exist_and_are_few():
    assert len(saddlegan.__all__) <= 14
    for module in (saddlegan, saddlegan.fit, saddlegan.train, saddlegan.certify, saddlegan.networks):
        for name in getattr(module, "__all__", []):
            assert getattr(module, name) is not None
