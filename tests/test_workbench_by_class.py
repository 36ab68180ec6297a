"""Fits class by class from the shell. Oracles: labels written by hand, `ByClass` in Python, the labels' own rows."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_iris

from browser import Tab, find_chromium, open_page
from saddlegan import fit
from saddlegan.errors import DataError, InputError
from saddlegan.networks import LinearGenerator, MixtureGenerator
from saddlegan.results import Status
from saddlegan.workbench import cli
from saddlegan.workbench.data import labels as reading
from saddlegan.workbench.data import sources
from saddlegan.workbench.report.sections.findings import _of_labels
from saddlegan.workbench.runs import classes, opened
from saddlegan.workbench.runs.folder import Run

DIGITS: Any = load_digits()
X, Y = DIGITS.data, DIGITS.target
NAMES = ["a/1.png", "a/2.png", "b/3.png"]


def test_a_mixture_draws_labels_with_their_shares_and_knows_its_moments():
    each = [LinearGenerator(k, 3, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (1, 2)]
    with torch.no_grad():
        each[1].mean.add_(3.0)
    G = MixtureGenerator(each, [3.0, 1.0])
    z = torch.randn(200_000, G.n_latent, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert G.n_latent == 3
    assert float(G.labels(z).double().mean()) == pytest.approx(0.25, abs=0.005)
    made = G(z).detach()
    torch.testing.assert_close(made[G.labels(z) == 0], each[0](z[G.labels(z) == 0, 1:2]).detach())
    mean, factor = (moment.detach() for moment in G.moments())
    torch.testing.assert_close(made.mean(0), mean, atol=0.02, rtol=0.0)
    torch.testing.assert_close(made.T.cov(), factor.T @ factor, atol=0.1, rtol=0.02)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.png,7\n2.png,-1\n3.png,7\n", ""),
        ("name,digit\na/1.png,7\na/2.png,-1\nb/3.png,7\nother.png,9\n", ""),
        ("file\tsex\tdigit\n1\tm\t7\n2\tf\t-1\n3\tm\t7\n", ":digit"),
        ("3\nYoung Smiling\n1.png  1  7\n2.png -1 -1\n3.png  1  7\n", ":Smiling"),
    ],
    ids=["two columns", "with a header and others", "a column by name", "CelebA"],
)
def test_lists_of_pictures(tmp_path: Path, text: str, said: str):
    (tmp_path / "list.txt").write_text(text)
    found = reading.of_pictures(tmp_path, NAMES, f"{tmp_path / 'list.txt'}{said}")
    assert found.tolist() == [7, -1, 7]


def test_names_of_sub_folders_are_labels(tmp_path: Path):
    assert reading.of_pictures(tmp_path, NAMES, "").tolist() == ["a", "a", "b"]
    with pytest.raises(InputError, match="do not lie in sub-folders"):
        reading.of_pictures(tmp_path, ["1.png", "2.png"], "")


def test_bad_lists_are_named(tmp_path: Path):
    path = tmp_path / "list.csv"
    path.write_text("1.png,7\n2.png,1\n")
    with pytest.raises(DataError, match=r"no line for b/3\.png"):
        reading.of_pictures(tmp_path, NAMES, str(path))
    path.write_text("name,a,b\n1.png,7,1\n2.png,1,1\n3.png,1,1\n")
    with pytest.raises(InputError, match="must name one of the columns"):
        reading.of_pictures(tmp_path, NAMES, str(path))
    with pytest.raises(InputError, match=r"'c', which .* does not have; it has a, b"):
        reading.of_pictures(tmp_path, NAMES, f"{path}:c")
    path.write_text("1.png,7\n2.png\n3.png,1\n")
    with pytest.raises(DataError, match=r"'2\.png' has 1 columns"):
        reading.of_pictures(tmp_path, NAMES, str(path))
    with pytest.raises(DataError, match="which is no file"):
        reading.of_pictures(tmp_path, NAMES, "nothing.csv:a")
    path.write_text("3\n4\n")
    with pytest.raises(DataError, match="holds 2 labels for 3 rows"):
        reading.of_rows(3, str(path))
    with pytest.raises(DataError, match="no label in row 1"):
        reading.from_column([1.0, float("nan")], "kind", path)


def test_labels_of_arrays_and_tables(tmp_path: Path):
    np.savez(tmp_path / "d.npz", X=X[:20], y=Y[:20], kind=Y[:20] % 2)
    np.save(tmp_path / "d.npy", X[:20])
    np.save(tmp_path / "y.npy", Y[:20])
    (tmp_path / "y.csv").write_text("digit\n" + "".join(f"{label}\n" for label in Y[:20]))
    for source, said, expected in (
        ("d.npz", "", Y[:20]),
        ("d.npz", "kind", Y[:20] % 2),
        ("d.npy", str(tmp_path / "y.npy"), Y[:20]),
        ("d.npy", str(tmp_path / "y.csv"), Y[:20]),
    ):
        data = sources.labelled(sources.load(tmp_path / source), said)
        np.testing.assert_array_equal(data.labels, expected)
        again = sources.load_spec(data.spec)
        np.testing.assert_array_equal(again.labels, expected)
        one = sources.of_label(data, expected[0])
        np.testing.assert_array_equal(sources.load_spec(one.spec).X, X[:20][expected == expected[0]])
    with pytest.raises(InputError, match="name a file with one line per row"):
        sources.labelled(sources.load(tmp_path / "d.npy"), "")
    with pytest.raises(InputError, match="no array 'nothing' of labels"):
        sources.labelled(sources.load(tmp_path / "d.npz"), "nothing")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("by-class") / "digits"
    assert cli.run(["fit", "digits", "--by-class", "--n-latent", "6", "--out", str(out)]) == 0
    return out


@pytest.mark.slow  # runs whole commands
def test_digits_class_by_class_are_the_models_of_python(digits: Path, tmp_path: Path, capsys):
    expected = fit.ByClass(fit.QuadraticWGAN(n_latent=6, random_state=0)).fit(X / 16, Y)
    found = classes.read_labels(Run.open(digits))
    assert [each.name for each in found] == [str(label) for label in range(10)]
    assert [each.rows for each in found] == np.bincount(Y).tolist()
    for each in found:
        assert each.solution.value == pytest.approx(expected.solution(int(each.name)).value, rel=1e-12)
    assert cli.run(["sample", str(digits), "--label", "7", "-n", "4000", "--out", str(tmp_path / "x.npy")]) == 0
    made = np.load(tmp_path / "x.npy").reshape(4000, -1)
    np.testing.assert_allclose(made.mean(0), X[Y == 7].mean(0) / 16, atol=0.03)
    assert cli.run(["sample", str(digits), "-n", "4000", "--out", str(tmp_path / "all.npy")]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "all.npy").reshape(4000, -1).mean(0), X.mean(0) / 16, atol=0.03)
    capsys.readouterr()
    assert cli.run(["certify", str(digits / "labels" / "7"), "--steps", "3", "--restarts", "1", "--lam", "1"]) == 0
    assert "is proved" in capsys.readouterr().out
    assert opened.load(digits / "labels" / "7").data.X.shape == ((Y == 7).sum(), 64)
    assert cli.run(["certify", str(digits)]) == 2
    assert "a pair of its own" in capsys.readouterr().err
    assert cli.run(["sample", str(digits), "--label", "x", "--out", str(tmp_path / "y.npy")]) == 2
    assert "must be one of 0, 1, 2" in capsys.readouterr().err
    assert cli.run(["report", str(digits)]) == 0
    assert cli.run(["report", str(digits / "labels" / "7")]) == 0
    sections = json.loads((digits / "report.json").read_text())["sections"]
    part = next(each["data"] for each in sections if each["id"] == "labels")
    short = next(each["data"] for each in sections if each["id"] == "findings")
    assert short["faults"] == []
    assert "real ranked above generated" not in short["findings"]  # there is no discriminator to rank
    spread = np.sqrt(np.load(tmp_path / "all.npy").reshape(4000, -1).var(0).sum() / (X / 16).var(0).sum())
    assert short["findings"]["spread of G(z) / spread of data"] == pytest.approx(spread, rel=0.05)
    assert "All 10 labels have a model that is proved" in (digits / "report.html").read_text()
    first, second = part["nearest"]["labels"]
    assert part["nearest"]["value"] == pytest.approx(expected.discrepancy(int(first), int(second)).value, rel=1e-6)


@pytest.mark.slow  # runs whole commands
def test_folders_and_stages_class_by_class(tmp_path: Path, capsys):
    for index in range(40):
        place = tmp_path / "pictures" / str(Y[index] % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((X[index] * 15).astype(np.uint8).reshape(8, 8)).save(place / f"{index:02}.png")
    made = ["fit", str(tmp_path / "pictures"), "--by-class", "--out", str(tmp_path / "run")]
    assert cli.run([*made, "--n-latent", "3"]) == 0
    stages = ["--progressive", "--resolutions", "4,8", "--cache", str(tmp_path / "cache"), "--overwrite"]
    assert cli.run([*made, *stages]) == 0
    found = classes.read_labels(Run.open(tmp_path / "run"))
    assert [each.name for each in found] == ["0", "1"]
    means = [X[:40][Y[:40] % 2 == label].mean(0) * 15 for label in (0, 1)]
    for each, mean in zip(found, means, strict=True):
        own = opened.load(tmp_path / "run" / "labels" / each.folder)
        np.testing.assert_allclose(own.data.X.mean(0), mean, atol=1.0)
        G: Any = own.run.load_generator()
        np.testing.assert_allclose(G.moments()[0].detach(), mean, atol=1.0)
    assert "sets" in (tmp_path / "run" / "explorer.html").read_text()
    capsys.readouterr()
    assert cli.run(["fit", "digits", "--labels", "y.csv", "--out", str(tmp_path / "no")]) == 2
    assert "belongs to --by-class" in capsys.readouterr().err


def test_a_label_whose_model_is_not_proved_is_named():
    """Oracle: statuses set by hand."""
    known = fit.QuadraticWGAN(2).fit(X).solution_
    each = [classes.Label(name, name, 9, 0.5, known) for name in ("a", "b")]
    assert _of_labels(each)[1] == "well"
    each[1] = dataclasses.replace(each[1], solution=dataclasses.replace(known, status=Status.ESTIMATED))
    assert _of_labels(each) == ("1 of 2 labels' models are proved to be optimal; not so b.", "bad")


def test_samples_of_all_labels_say_which_is_whose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    """Oracle: two labels whose rows are one point each, so that the row says its label."""
    pytest.importorskip("openpyxl")
    monkeypatch.setattr("saddlegan.workbench.runs.folder.SAMPLE_ROWS", 16)  # several blocks
    rows = np.where(np.arange(30) % 3 == 0, 5.0, -5.0)
    rows[3:5] += 0.01  # no constant within a label
    pd.DataFrame({"a": rows, "kind": np.where(rows > 0, "up", "down")}).to_csv(tmp_path / "d.csv", index=False)
    words = ["fit", str(tmp_path / "d.csv"), "--by-class", "--labels", "kind", "--n-latent", "1"]
    assert cli.run([*words, "--out", str(tmp_path / "run")]) == 0
    draw = ["sample", str(tmp_path / "run"), "-n", "50", "--out"]
    for ending, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet), (".xlsx", pd.read_excel)):
        assert cli.run([*draw, str(tmp_path / f"s{ending}")]) == 0
        made = read(tmp_path / f"s{ending}")
        assert list(made.columns) == ["a", "kind"]
        assert set(made["kind"]) == {"up", "down"}
        assert ((made["a"] > 0) == (made["kind"] == "up")).all()
    assert cli.run([*draw, str(tmp_path / "s.npz")]) == 0
    again = sources.labelled(sources.load(tmp_path / "s.npz"), "")
    assert again.labels is not None
    np.testing.assert_array_equal(again.X[:, 0] > 0, again.labels == "up")
    capsys.readouterr()
    assert cli.run([*draw, str(tmp_path / "s.npy")]) == 0
    assert ".npy keeps no labels" in capsys.readouterr().out
    with pytest.raises(InputError, match="was not fitted class by class"):
        next(classes.of_label(Run.open(tmp_path / "run"), "up").label_blocks(1, 0))


@pytest.mark.slow  # runs whole commands
def test_a_table_s_column_names_the_labels(tmp_path: Path):
    iris: Any = load_iris(as_frame=True)
    frame: pd.DataFrame = iris.data.assign(kind=np.array(iris.target_names)[iris.target])
    frame.to_csv(tmp_path / "iris.csv", index=False)
    words = ["fit", str(tmp_path / "iris.csv"), "--by-class", "--labels", "kind", "--n-latent", "2"]
    assert cli.run([*words, "--out", str(tmp_path / "run")]) == 0
    run = opened.load(tmp_path / "run")
    assert run.data.X.shape == (150, 4)
    assert run.data.labels is not None
    assert set(run.data.labels) == {"setosa", "versicolor", "virginica"}
    assert (
        cli.run(["sample", str(tmp_path / "run"), "--label", "setosa", "-n", "500", "--out", str(tmp_path / "s.csv")])
        == 0
    )
    made = pd.read_csv(tmp_path / "s.csv")
    assert list(made.columns) == list(iris.data.columns)
    np.testing.assert_allclose(made.mean(), iris.data[iris.target == 0].mean(), atol=0.1)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert cli.run(["report", str(tmp_path / "moved")]) == 0


@pytest.mark.slow  # starts Chromium
@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium found")
def test_a_button_for_each_label_changes_the_pictures(digits: Path):
    portrait = "document.getElementById('portrait').toDataURL()"

    def act(tab: Tab) -> list[str]:
        seen = [tab.evaluate(portrait)]
        for place in (7, 0):
            tab.evaluate(f"document.querySelectorAll('#labels input')[{place}].click()")
            seen.append(tab.evaluate(portrait))
        assert tab.evaluate("document.querySelectorAll('#labels input').length") == 10
        return seen

    page = open_page(digits / "explorer.html", width=400, act=act)
    assert page.errors == []
    assert page.overflow == 0
    zero, seven, again = page.result
    assert zero == again != seven
