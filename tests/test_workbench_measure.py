"""`measure`, the report's section and `compare`. Oracle: samples whose faults are known."""

import json

import numpy as np
import pandas as pd
import pytest

from saddlegan.workbench import cli
from saddlegan.workbench.data import sources
from saddlegan.workbench.report import quality
from saddlegan.workbench.runs.folder import Run


def call(capsys, *arguments):
    code = cli.run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def files(tmp_path):
    x = np.random.default_rng(0).standard_normal((1200, 3))
    for name, rows in {"data": x[:800], "fresh": x[800:], "shifted": x[800:] + 1.0, "copied": x[:400]}.items():
        np.save(tmp_path / f"{name}.npy", rows)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "worse"), [("fresh", set()), ("shifted", {"coverage", "kernel", "sliced", "frechet"})]
)
def test_a_file_against_data(name, worse, files, capsys):
    code, out, _ = call(capsys, "measure", files / f"{name}.npy", "--against", files / "data.npy", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["n"] == 400
    assert {key for key, each in found["measures"].items() if each["above_floor"] > quality.SURE} == worse
    code, out, _ = call(capsys, "measure", files / f"{name}.npy", "--against", files / "data.npy")
    assert out.count("worse than real rows") == len(worse)


def test_copies_are_found(files, capsys):
    _, out, _ = call(capsys, "measure", files / "copied.npy", "--against", files / "data.npy", "--json")
    found = json.loads(out)["measures"]["copies"]
    assert found["value"] > 0.4  # half of the copied rows are among the data's half that is compared with
    assert found["above_floor"] > quality.SURE


def test_what_was_guessed_of_both_files_is_said(tmp_path, capsys):
    rows = np.random.default_rng(0).normal(size=(60, 2)).round(3)
    pd.DataFrame(rows).to_csv(tmp_path / "made.csv", sep=";", header=False, index=False)
    pd.DataFrame(rows).to_csv(tmp_path / "real.csv", sep="\t", header=False, index=False)
    assert cli.run(["measure", str(tmp_path / "made.csv"), "--against", str(tmp_path / "real.csv"), "-n", "30"]) == 0
    said = capsys.readouterr().out
    assert "separated by semicolons" in said
    assert "separated by tabs" in said


@pytest.mark.slow  # runs whole commands
def test_tables_are_measured_in_the_columns_and_units_of_what_they_are_measured_against(tmp_path, capsys):
    """Oracle: rows of one normal distribution, that of the thousands beside that of the thousandths."""
    rng = np.random.default_rng(0)
    for name, shift in (("real", 0.0), ("fresh", 0.0), ("shifted", 0.003)):
        frame = pd.DataFrame({"large": 5e3 + 1e3 * rng.normal(size=300), "small": 1e-3 * rng.normal(size=300) + shift})
        frame.assign(kind="a").to_csv(tmp_path / f"{name}.csv", index=False)
    code, _, err = call(capsys, "measure", tmp_path / "fresh.csv", "--against", tmp_path / "real.csv")
    assert (code, "--drop kind" in err) == (2, True)

    def worse(*words):
        code, out, err = call(capsys, "measure", *words, "--json")
        assert code == 0, err
        return {name for name, each in json.loads(out)["measures"].items() if each["above_floor"] > quality.SURE}

    table = ("--against", tmp_path / "real.csv", "--drop", "kind")
    assert worse(tmp_path / "shifted.csv", *table) == set()  # the large column is all that is seen
    assert worse(tmp_path / "shifted.csv", *table, "--standardise") >= {"kernel", "sliced", "frechet"}
    assert worse(tmp_path / "fresh.csv", *table, "--standardise") == set()
    run = ("fit", tmp_path / "real.csv", "--drop", "kind", "--standardise", "--out", tmp_path / "run")
    assert call(capsys, *run)[0] == 0
    assert worse(tmp_path / "run", "--against", tmp_path / "fresh.csv") == set()  # drops what the run dropped
    assert worse(tmp_path / "run", "--against", tmp_path / "shifted.csv") >= {"kernel", "sliced", "frechet"}
    code, _, err = call(capsys, "measure", tmp_path / "run", "--drop", "large")
    assert (code, "--drop` and the other options of tables belong to --against" in err) == (2, True)
    pd.read_csv(tmp_path / "fresh.csv")[["small", "large"]].to_csv(tmp_path / "turned.csv", index=False)
    code, _, err = call(
        capsys, "measure", tmp_path / "run", "--against", tmp_path / "turned.csv", "--columns", "small,large"
    )
    assert code == 2
    assert "'small' is not at the same place in both; choose the same ones in the same order with `--columns`" in err


def test_a_file_alone_is_refused(files, capsys):
    code, _, err = call(capsys, "measure", files / "fresh.npy")
    assert code == 2
    assert "--against" in err


def test_what_to_look_at_is_checked_first(capsys):
    code, _, err = call(capsys, "measure", "nowhere", "--against", "nothing", "--features", "nothing")
    assert (code, "`--features` must be one of auto, numbers, imagenet" in err) == (2, True)


@pytest.mark.slow  # runs whole commands
def test_reports_and_compare_measure(tmp_path, capsys):
    for seed in (0, 1):
        words = ("--steps", 2, "--n-samples", 400, "--seed", seed, "--out", tmp_path / str(seed))
        assert call(capsys, "train", "ring", *words)[0] == 0
    sections = {s["id"]: s["data"] for s in Run.open(tmp_path / "0").read_json("report.json")["sections"]}
    measures = sections["quality"]["measures"]
    assert list(measures) == [name for name in quality.MEANINGS if name != "worst class"]  # the ring has no labels
    assert measures["frechet"]["above_floor"] > quality.SURE  # two steps train nothing
    code, out, _ = call(capsys, "measure", tmp_path / "0", "--json")
    assert json.loads(out)["measures"]["coverage"]["value"] == pytest.approx(measures["coverage"]["value"], abs=0.1)
    code, out, _ = call(capsys, "compare", tmp_path / "0", tmp_path / "1", "--out", tmp_path / "c.png")
    assert code == 0
    assert f"frechet of {tmp_path / '1'}: " in out


@pytest.mark.slow  # runs whole commands
def test_a_missing_class_is_named_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SADDLEGAN_CACHE", str(tmp_path / "cache"))
    data, labels = sources.load("digits"), sources.labels("digits")
    for name, rows in (("all", data.X), ("no-three", data.X[labels != 3])):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).permutation(rows))
        words = ("measure", tmp_path / f"{name}.npy", "--against", "digits", "--features", "numbers", "--json")
        found = json.loads(call(capsys, *words)[1])
        first, each = next(iter(found["measures"].items()))
        assert first == "worst class"
        assert (each["above_floor"] > each["stats"]["limit"]) == (name == "no-three")
        if name == "no-three":
            assert each["stats"]["class"] == "3"
            assert each["value"] < 0.02 < 0.08 < each["floor"]
    assert "numbers themselves" in found["features"]
    assert len(list((tmp_path / "cache").glob("classifier-*.safetensors"))) == 1  # trained once
    code, _, err = call(capsys, "measure", tmp_path / "all.npy", "--against", "digits", "--features", "nothing")
    assert (code, "`--features` must be one of auto, numbers, imagenet" in err) == (2, True)


def test_digits_are_looked_at_by_a_net(capsys):
    X = quality.measure(np.random.default_rng(0).random((100, 64)), np.zeros((50, 64)), image_shape=(8, 8))
    assert "convolution" in X.features
    assert X.measures["frechet"].stats["features"] == 226
