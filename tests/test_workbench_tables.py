"""Tables: names, columns of words, units and what is left out. Oracle: the frame that was written to the file."""

from __future__ import annotations

import base64
import io
import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_wine

from saddlegan.errors import DataError, InputError
from saddlegan.workbench import cli
from saddlegan.workbench.commands.fit import said_of_units
from saddlegan.workbench.data import sources
from saddlegan.workbench.data.spec import DataSpec
from saddlegan.workbench.data.tables import TableOptions
from saddlegan.workbench.report import export
from saddlegan.workbench.report.figures import samples as figures
from saddlegan.workbench.runs.folder import Run


@pytest.fixture
def flowers(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    rng = np.random.default_rng(0)
    colours = np.array(["red", "blue", "white"])[rng.integers(0, 3, 60)]
    frame = pd.DataFrame({"length, cm": rng.normal(5, 2, 60), "colour": colours, "weight": rng.normal(900, 300, 60)})
    frame.to_csv(tmp_path / "flowers.csv", index=False)
    return tmp_path / "flowers.csv", frame


def test_words_become_columns_and_come_back(flowers) -> None:
    path, frame = flowers
    data = sources.load(path, table=TableOptions(one_hot=True, standardise=True))
    assert data.spec.columns == ("length, cm", "colour=blue", "colour=red", "colour=white", "weight")
    np.testing.assert_allclose(data.X[:, [0, 4]].mean(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(data.X[:, [0, 4]].std(0), 1.0)
    np.testing.assert_array_equal(data.X[:, 1:4].sum(1), 1.0)
    back = data.spec.as_table(data.X)
    assert list(back) == list(frame.columns)
    assert back["colour"].tolist() == frame["colour"].tolist()
    np.testing.assert_allclose(back["weight"], frame["weight"])
    again = sources.load_spec(DataSpec.model_validate_json(data.spec.model_dump_json()))
    np.testing.assert_array_equal(again.X, data.X)


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".xlsx"])
def test_samples_have_the_names_and_the_words_of_the_table(ending: str, flowers) -> None:
    if ending == ".xlsx":
        pytest.importorskip("openpyxl")
    path, frame = flowers
    data = sources.load(path, table=TableOptions(one_hot=True, standardise=True))
    made = export.write(data.X, path.with_name(f"samples{ending}"), data.spec)
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".xlsx": pd.read_excel}[ending](made)
    pd.testing.assert_frame_equal(read, frame)
    pd.testing.assert_frame_equal(
        pd.DataFrame(sources.load(made, table=TableOptions(one_hot=True, standardise=True)).X), pd.DataFrame(data.X)
    )


def test_a_workbook_s_first_sheet_is_read(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    first, second = pd.DataFrame({"a": [1.5, 2.5, 4.0], "b": [0.0, 1.0, 5.0]}), pd.DataFrame({"z": [1]})
    with pd.ExcelWriter(tmp_path / "book.xlsx", engine="openpyxl") as book:
        first.to_excel(book, sheet_name="mine", index=False)
        second.to_excel(book, sheet_name="other", index=False)
    data = sources.load(tmp_path / "book.xlsx")
    np.testing.assert_array_equal(data.X, first.to_numpy())
    assert data.spec.columns == ("a", "b")
    assert any("'mine'" in note and "'other'" in note for note in data.notes)


def test_columns_are_kept_in_order_or_left_out(flowers) -> None:
    path, frame = flowers
    kept = sources.load(path, table=TableOptions(columns=("weight", "length, cm")))
    np.testing.assert_allclose(kept.X, frame[["weight", "length, cm"]].to_numpy())
    dropped = sources.load(path, table=TableOptions(drop=("colour",)))
    np.testing.assert_allclose(dropped.X, frame[["length, cm", "weight"]].to_numpy())
    np.save(path.with_name("plain.npy"), np.arange(12.0).reshape(3, 4))
    array = sources.load(path.with_name("plain.npy"), table=TableOptions(columns=("3", "0")))
    np.testing.assert_array_equal(array.X[0], [3.0, 0.0])


@pytest.mark.parametrize("head", ["a,b,\n", "a,b\n", ""])
def test_separators_that_end_the_rows_make_no_column(head: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(head + "1,2.5,\n3,4,\n5,7,\n")
    data = sources.load(tmp_path / "t.csv")
    np.testing.assert_array_equal(data.X, [[1, 2.5], [3, 4], [5, 7]])
    assert data.spec.columns == (("a", "b") if head else None)
    assert any("left out the last column, which has no name and no value" in note for note in data.notes)


def test_a_last_column_with_a_name_or_a_late_value_is_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "named.csv").write_text("a,b,c\n1,2,\n3,4,\n")
    with pytest.raises(DataError, match="holds NaN in row 0, column 2"):
        sources.load(tmp_path / "named.csv")
    (tmp_path / "late.csv").write_text("a,b,\n" + "1,2,\n" * 300 + "3,4,5\n")  # behind the lines that are looked at
    with pytest.raises(DataError, match="has a value in row 300"):
        sources.load(tmp_path / "late.csv")


def test_what_cannot_be_chosen_is_named(flowers) -> None:
    path, _ = flowers
    with pytest.raises(DataError, match="did you mean 'colour'"):
        sources.load(path, table=TableOptions(drop=("color",)))
    with pytest.raises(DataError, match="leaves no column"):
        sources.load(path, table=TableOptions(columns=("weight",), drop=("weight",)))
    with pytest.raises(DataError, match="`one_hot` makes a column of each of its words"):
        sources.load(path)
    with pytest.raises(InputError, match="is no table"):
        sources.load("ring", table=TableOptions(standardise=True))
    np.save(path.with_name("images.npy"), np.zeros((4, 2, 2)))
    with pytest.raises(DataError, match="for tables only"):
        sources.load(path.with_name("images.npy"), table=TableOptions(standardise=True))


@pytest.mark.slow  # runs whole commands
def test_options_of_tables_on_the_command_line(flowers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, frame = flowers
    made = ["fit", str(path), "--n-latent", "2", "--out", str(tmp_path / "run")]
    assert cli.run(made) == 2
    assert "leave it out with --drop colour, or `--one-hot` makes" in capsys.readouterr().err
    assert cli.run([*made, "--one-hot", "--standardise"]) == 0
    assert cli.run(["sample", str(tmp_path / "run"), "-n", "9", "--out", str(tmp_path / "s.csv")]) == 0
    read = pd.read_csv(tmp_path / "s.csv")
    assert list(read.columns) == list(frame.columns)
    assert set(read["colour"]) <= {"red", "blue", "white"}
    assert read["weight"].to_numpy().mean() > 300, "in the table's own units"
    capsys.readouterr()
    assert cli.run(["data", str(path), "--columns", 'weight,"length, cm"', "--standardise", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["columns"] == 2
    assert found["total_variance"] == pytest.approx(2.0)
    frame.assign(colour=7).to_csv(path, index=False)
    assert cli.run(["data", str(path)]) == 0
    assert "; --drop colour leaves it out" in capsys.readouterr().out
    assert cli.run(["fit", "digits", "--progressive", "--drop", "a", "--out", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_constant_and_a_counting_column_are_pointed_out(ending: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": np.arange(30), "x": np.random.default_rng(0).normal(size=30), "always": 7.0})
    path = tmp_path / f"t{ending}"
    frame.to_csv(path, index=False) if ending == ".csv" else frame.to_parquet(path)
    notes = " ".join(sources.load(path).notes)
    assert "always" in notes
    assert "'id' counts the rows" in notes
    standard = sources.load(path, table=TableOptions(standardise=True))
    np.testing.assert_array_equal(standard.X[:, 2], 0.0)


@pytest.mark.slow  # runs whole commands
def test_a_table_of_unlike_columns_has_a_report_that_says_something(tmp_path: Path) -> None:
    """wine.csv's last column is a hundred times as wide as the others. Oracle: what the axes were asked to show."""
    wine: Any = load_wine(as_frame=True)
    wine.data.to_csv(tmp_path / "wine.csv", index=False)
    assert cli.run(["fit", str(tmp_path / "wine.csv"), "--out", str(tmp_path / "run")]) == 0
    run = Run.open(tmp_path / "run")
    page = (run.path / "report.html").read_text()
    assert "od280/od315_of_diluted_wines" in page
    spectrum = np.asarray(run.read_json("certificate.json")["spectrum"])
    floor = figures.log_floor(spectrum)
    assert floor is not None
    assert 0 < floor < spectrum[spectrum > 0].min()
    assert figures.log_floor(np.array([4.0, 3.0, 2.0, 1.0])) is None, "an ordinary spectrum keeps a straight axis"
    low, high = figures.frame_of(np.array([[0.0, 0.0], [1000.0, 3.0]]))
    np.testing.assert_allclose(high - low, [1080.0, 3.24])
    low, high = figures.frame_of(np.array([[0.0, 0.0], [3.0, 2.0]]))
    np.testing.assert_allclose(high - low, [3.24, 3.24])
    rows = run.sample(5, 0)
    export.write(rows, tmp_path / "s.csv", run.config.data)
    assert list(pd.read_csv(tmp_path / "s.csv").columns) == list(wine.data.columns)


def shapes(png: bytes) -> int:
    """Kinds of columns of pixels in a picture: where their coloured marks begin and end, and in which shade."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    coloured = pixels.max(2) - pixels.min(2) > 60
    columns = np.flatnonzero(coloured.any(0))
    first, last = coloured.argmax(0)[columns], coloured[::-1].argmax(0)[columns]
    return len(np.unique(np.column_stack([first, last, pixels[first, columns] // 32]), axis=0))


def test_flat_pictures_are_told_from_others() -> None:
    """The check below can fail: on a constant."""
    from saddlegan.workbench.report.figures import training

    steps, ragged = list(range(60)), np.random.default_rng(0).normal(size=60).tolist()
    flat, steep = (shapes(training.curves({"loss": {"a": (steps, values)}})) for values in ([1.0] * 60, ragged))
    assert flat < 10 < steep


def test_a_column_that_is_nearly_all_the_variance_is_pointed_out(tmp_path: Path) -> None:
    wine: Any = load_wine(as_frame=True)
    wine.data.to_csv(tmp_path / "wine.csv", index=False)
    share = wine.data["proline"].var() / wine.data.var().sum()
    said = said_of_units(sources.load(tmp_path / "wine.csv"))
    assert said.startswith(f"column 'proline' has {share:.1%} of the variance")
    assert "--standardise" in said
    assert not said_of_units(sources.load(tmp_path / "wine.csv", table=TableOptions(standardise=True)))
    assert not said_of_units(sources.load(tmp_path / "wine.csv", table=TableOptions(drop=("proline",))))
    assert not said_of_units(sources.load("ring", n_samples=50))


def test_the_page_shows_the_lines_of_the_example() -> None:
    root = Path(__file__).parents[1]
    page, example = (root / name for name in ("docs/command-line.md", "examples/wine_table.py"))
    block = re.search(r"^```shell\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert block is not None
    assert block[1].splitlines() == re.findall(r"^ {4}(saddlegan .*)$", example.read_text(), re.MULTILINE)


@pytest.mark.slow  # runs whole commands
def test_the_example_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "wine_table.py"))
    assert example["main"](tmp_path) == [0] * 5, capsys.readouterr().err
    wine: Any = load_wine(as_frame=True)
    names = list(wine.data.columns)
    samples, labelled = (pd.read_csv(tmp_path / name) for name in ("samples.csv", "labelled.csv"))
    assert list(samples.columns) == names
    # the model has the data's mean: 500 samples meet it within five standard errors
    assert (abs(samples.mean() - wine.data.mean()) < 5 * wine.data.std() / 500**0.5).all()
    assert list(labelled.columns) == [*names, "cultivar"]
    by_hand = wine.data.groupby(np.array(wine.target_names)[wine.target])["proline"].mean()
    np.testing.assert_allclose(labelled.groupby("cultivar")["proline"].mean(), by_hand, rtol=0.1)
    for run in ("wine", "by-cultivar"):
        page = (tmp_path / "runs" / run / "report.html").read_text()
        pictures = [base64.b64decode(found) for found in re.findall(r"data:image/png;base64,([^\"]+)", page)]
        assert len(pictures) >= 3
        assert min(map(shapes, pictures)) >= 10
        assert all(name in page for name in names)
    assert "not told from real rows" in capsys.readouterr().out
