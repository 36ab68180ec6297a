"""Figures, sections and the report. Oracle: the arrays that were drawn, and a browser that opens the page."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from markupsafe import Markup
from PIL import Image

import saddlegan
from begun import begun
from browser import BROKEN_WORDS, Page, Tab, find_chromium, open_page
from saddlegan.certify import GradientNorms
from saddlegan.errors import InputError, RunError
from saddlegan.networks import MLP
from saddlegan.results import Bound, Certificate, Status, Verdict
from saddlegan.workbench import cli
from saddlegan.workbench.data import sources
from saddlegan.workbench.report import html
from saddlegan.workbench.report import page as report
from saddlegan.workbench.report.figures import pictures, style
from saddlegan.workbench.report.figures import samples as figures
from saddlegan.workbench.report.scene import Scene, Section, title_of
from saddlegan.workbench.report.sections import equilibrium, every_run, findings
from saddlegan.workbench.report.sections import trained as trained_sections
from saddlegan.workbench.runs import certificate as certificates
from saddlegan.workbench.runs import folder as runs
from saddlegan.workbench.runs import players
from saddlegan.workbench.runs.config import LatentSpec, RunConfig

needs_browser = pytest.mark.skipif(find_chromium() is None, reason="no Chromium found")


def decoded(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def fitted(tmp_path: Path, *words: str) -> runs.Run:
    assert cli.run(["fit", *words, "--out", str(tmp_path / "run")]) == 0
    return runs.Run.open(tmp_path / "run")


def trained(tmp_path: Path) -> runs.Run:
    """A run that no solver made: a random MLP pair on the ring."""
    G, D, data = MLP(4, 2, hidden=(8,)), MLP(2, 1, hidden=(8,)), sources.load("ring", n_samples=300)
    config = RunConfig(
        command="train", model="primal-dual", objective="vanilla", data=data.spec, latent=LatentSpec(size=4),
        generator=players.network_spec(G), discriminator=players.network_spec(D),
    )  # fmt: skip
    return begun(tmp_path / "trained", config, generator=G, discriminator=D)


def test_pictures_are_scaled_clipped_and_tiled() -> None:
    rows = np.array([[-9.0, 0.0, 127.5, 255.0], [999.0, 255.0, 0.0, 0.0]])
    found = pictures.to_pictures(rows, (2, 2), (0.0, 255.0))
    np.testing.assert_array_equal(found, [[[0, 0], [0.5, 1]], [[1, 1], [0, 0]]])
    assert pictures.to_pictures(rows, (2, 2, 1), (0.0, 255.0)).shape == (2, 2, 2)
    sheet = pictures.tile(found, 2)
    np.testing.assert_array_equal(sheet, [[0, 0, 1, 1, 1], [0.5, 1, 1, 0, 0]])
    assert pictures.tile(found[[0, 1, 0]], 2, background=0.25)[-1, -1] == 0.25
    with pytest.raises(InputError, match="4 columns"):
        pictures.to_pictures(rows[:, :3], (2, 2), (0.0, 1.0))


def test_a_sheet_holds_every_pixel() -> None:
    found = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)) / 255.0
    sheet = decoded(pictures.sheet_png(found, len(found)))
    zoom = 6
    assert sheet.shape == (2 * 8 * zoom + 2, 2 * 8 * zoom + 2, 3)
    corner = sheet[: 8 * zoom : zoom, : 8 * zoom : zoom] / 255.0
    np.testing.assert_array_equal(corner, found[0])


FIGURES = {
    "images": lambda rng: figures.real_and_generated_images(rng.random((9, 16)), rng.random((9, 16)), (4, 4), (0, 1)),
    "colour images": lambda rng: figures.real_and_generated_images(
        rng.random((4, 48)), rng.random((4, 48)), (4, 4, 3), (0, 1)
    ),
    "points": lambda rng: figures.real_and_generated_points(rng.random((9, 2)), rng.random((3000, 2))),
    "points with witness": lambda rng: figures.real_and_generated_points(
        rng.random((9, 2)), rng.random((9, 2)), witness=np.array([0.6, 0.8])
    ),
    "one point": lambda rng: figures.real_and_generated_points(np.zeros((2, 2)), np.zeros((2, 2))),
    "scatter": lambda rng: figures.points(rng.random((50, 2))),
    "histogram": lambda rng: figures.points(rng.random((50, 1))),
    "one column": lambda rng: figures.marginals(rng.random((50, 1)), rng.random((60, 1)), ["x1"]),
    "columns": lambda rng: figures.marginals(rng.random((0, 4)), rng.random((60, 4)), ["a", "b", "c", "d"]),
    "spectrum": lambda rng: figures.spectrum(np.arange(20.0)[::-1], beta=4.0, kept=15, unit="x"),
    "spectrum without beta": lambda rng: figures.spectrum(np.array([2.0, 1.0]), beta=0.0, kept=2, unit="x"),
    "spectrum of nothing": lambda rng: figures.spectrum(np.array([2.0]), beta=3.0, kept=0, unit="x"),
    "traversal": lambda rng: figures.traversal(rng.random(16), rng.random((3, 16)), rng.random(3), (4, 4), (0, 1)),
    "loadings": lambda rng: figures.loadings(rng.standard_normal((3, 5)), rng.random(3)),
    "direction": lambda rng: figures.direction(rng.standard_normal(5), None),
    "long direction": lambda rng: figures.direction(rng.standard_normal(99), None),
    "picture of a direction": lambda rng: figures.direction(rng.standard_normal(16), (4, 4)),
    "colour picture of a direction": lambda rng: figures.direction(rng.standard_normal(48), (4, 4, 3)),
}


@pytest.mark.slow  # trains, or draws whole pages
@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_reproducible_and_leave_matplotlib_as_it_was(name: str) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    first, second = (FIGURES[name](np.random.default_rng(0)) for _ in range(2))
    assert first == second
    assert dict(matplotlib.rcParams) == before
    assert decoded(first).std() > 1.0, "an empty picture"


def test_the_spectrum_draws_the_threshold_where_it_is() -> None:
    values = np.array([10.0, 6.0, 3.0, 1.0])
    picture = decoded(figures.spectrum(values, beta=4.0, kept=2, unit="x")).astype(int)

    def rows_of(colour: str) -> np.ndarray:
        target = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        # more pixels in a row than the legend's sample of the colour has
        return np.flatnonzero((np.abs(picture - target).sum(2) < 12).sum(1) > 120)

    blue, line, grey = rows_of(style.REAL), rows_of(style.GENERATED), rows_of(style.SHADE)
    zero, beta, top = grey.max(), line.mean(), blue.min()
    assert blue.max() <= line.max() + 2, "what is kept stands on the threshold"
    assert (zero - beta) / (zero - top) == pytest.approx(4.0 / 10.0, abs=0.01)


def test_html_is_escaped() -> None:
    png = figures.points(np.zeros((3, 2)))
    made = html.join(
        [
            html.text("<b>"),
            html.table([("<i>", "<u>", "<s>")]),
            html.code("<x>"),
            html.figure(png, alt='"<a>', caption="<c>"),
        ]
    )
    for tag in ("<b>", "<i>", "<u>", "<s>", "<x>", "<a>", "<c>"):
        assert tag not in made
    assert isinstance(made, Markup)
    width = int(made.split('width="')[1].split('"')[0])
    assert width == round(html.SCREEN_SCALE * decoded(png).shape[1])


def test_hyphenated_words_and_numbers_stay_whole() -> None:
    assert html.whole("gap 4e-15, a-priori") == (
        'gap <span class="whole">4e-15,</span> <span class="whole">a-priori</span>'
    )
    assert html.whole("<b>-1") == '<span class="whole">&lt;b&gt;-1</span>'
    long = "a-name-that-is-longer-than-a-narrow-screen"
    assert html.whole(long) == long


@pytest.mark.slow  # trains, or draws whole pages
def test_a_section_can_be_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def extra(scene: Scene) -> Section | None:
        if scene.run.config.command != "train":
            return None
        return Section("extra", "Extra & more", html.text(f"{len(scene.samples)} samples"), {"n": 1})

    place = report.SECTIONS.index(every_run.samples) + 1
    monkeypatch.setattr(report, "SECTIONS", (*report.SECTIONS[:place], extra, *report.SECTIONS[place:]))
    run = trained(tmp_path)
    page = report.write(run).read_text()
    assert page.count('<section id="extra"') == 1
    assert "Extra &amp; more" in page
    ids = [section["id"] for section in run.read_json("report.json")["sections"]]
    assert ids == ["findings", "equilibrium", "quality", "samples", "extra", "witness", "data"]
    assert "extra" not in report.write(fitted(tmp_path, "ring", "--n-samples", "50")).read_text()


@pytest.mark.slow  # trains, or draws whole pages
def test_the_words_of_the_certificate(tmp_path: Path) -> None:
    page = report.write(fitted(tmp_path, "digits", "--beta", "0.2")).read_text()
    for words in ("What was solved.", "What is proved.", "no generator of any kind", "optimal, up to rounding"):
        assert words in page
    for words in ("What this model cannot do", "second moments only", "the samples are Gaussian"):
        assert words in page
    assert "src=" not in page.replace('src="data:image/png;base64,', "")


@pytest.mark.slow  # trains, or draws whole pages
def test_a_failed_solution_is_not_called_solved(tmp_path: Path) -> None:
    run = fitted(tmp_path, "digits")
    solution = run.read_json("certificate.json")["solution"]
    solution |= {"status": "FEASIBLE", "message": "a feasible point", "bound": 2.0, "gap": solution["value"] - 2.0}
    certificates.add(run, "solution", solution)
    page = report.write(run).read_text()
    assert 'class="badge warn"' in page
    assert "optimal, up to rounding" not in page
    assert "is open" in page


@pytest.mark.slow  # trains, or draws whole pages
def test_certificates_keep_what_others_wrote(tmp_path: Path) -> None:
    run = fitted(tmp_path, "ring", "--n-samples", "50")
    certificates.add(run, "certificates", [{"kind": "nash", "gap": float("inf"), "curve": torch.ones(2)}])
    assert run.read_json("certificate.json")["certificates"] == [{"kind": "nash", "gap": "inf", "curve": [1.0, 1.0]}]
    assert certificates.read_solution(run) is not None
    assert len(certificates.read_spectrum(run)) == 2
    run.write_text("certificate.json", "[]")
    with pytest.raises(RunError, match="must hold a JSON object"):
        certificates.add(run, "x", 1)
    with pytest.raises(RunError, match="damaged"):
        certificates.read_solution(run)


def data_of(run: runs.Run, section: str) -> dict:
    found = run.read_json("report.json")["sections"]
    return next(entry["data"] for entry in found if entry["id"] == section)


@pytest.mark.slow  # trains, or draws whole pages
@pytest.mark.parametrize(
    ("weight", "fault", "words"),
    [(0.0, "dead generator", "All samples are one and the same"), (0.1, "collapsed", "Collapse: the samples are")],
)
def test_samples_that_are_all_alike_are_said_on_top(weight: float, fault: str, words: str, tmp_path: Path) -> None:
    """Oracle: a generator planted to make one picture, or nearly so."""
    made = fitted(tmp_path, "digits")
    G = made.load_generator()
    with torch.no_grad():
        G.get_parameter("weight").mul_(weight)
    config = made.config.model_copy(update={"command": "train", "model": "primal-dual"})
    run = begun(tmp_path / "alike", config, generator=G, discriminator=made.load_discriminator())
    page = report.write(run).read_text()
    assert fault in data_of(run, "findings")["faults"]
    assert page.index(words) < page.index('<section id="samples"')
    assert "saddlegan certify" in page, "says how to get the certificate that it lacks"


@pytest.mark.slow  # trains, or draws whole pages
def test_a_solved_pair_is_not_told_to_train(tmp_path: Path) -> None:
    """Its generator's gradient vanishes by right: it is the optimum."""
    run = fitted(tmp_path, "digits")
    assert data_of(run, "findings")["faults"] == []
    linear = fitted(tmp_path / "linear", "digits", "--model", "linear")
    assert data_of(linear, "findings")["faults"] == ["one point"]


@pytest.mark.slow  # trains, or draws whole pages
def test_one_column_is_drawn_as_distributions_and_solved_models_get_no_advice(tmp_path: Path) -> None:
    """Clipped at both ends by the solver, the points miss the data's tails: found, but nothing to train against."""
    run = fitted(tmp_path, "gaussian:1", "--model", "relu", "--n-samples", "200", "--beta", "0.1")
    page = (run.path / "report.html").read_text()
    assert "missing modes" in data_of(run, "findings")["faults"]
    assert "--rule" not in page
    assert "It was solved, not trained" in page
    assert "The distributions, in the data" in page
    (run.path / "report.html").unlink()
    missing = Scene(run, None, "gone")
    assert "Small histograms of the columns x1" in every_run.samples(missing).html


def test_every_fault_has_its_words() -> None:
    from saddlegan.certify import _diagnosis

    assert set(findings.IN_WORDS) == set(_diagnosis._ADVICE)
    assert set(findings.OF_SAMPLES) <= set(findings.IN_WORDS)


def step_of(gain: float, verdict: Verdict, bound: Bound = "lower") -> Certificate:
    return Certificate("proximal", gain, gain, -1e-3, bound, verdict, 0.0, Status.SETTLED)


def judged(lams: list[float], steps: list[Certificate]) -> equilibrium.Equilibrium:
    norms = GradientNorms(1.0, 2.0)
    return equilibrium.Equilibrium(
        tuple(lams), tuple(steps), 0.0, 0.0, False, "", gradient_norms=norms, norm="l2", objective="vanilla"
    )


def test_one_row_for_each_verdict_and_no_gain_below_zero() -> None:
    lams = [0.0, 0.1, 1.0, float("inf")]
    steps = [
        step_of(-0.2, "not refuted"),
        step_of(-0.1, "not refuted"),
        step_of(0.4, "refuted"),
        step_of(0.5, "refuted"),
    ]
    rows = equilibrium._rows(judged(lams, steps))
    assert [row[1] for row in rows[:-1]] == ["not refuted", "refuted"]
    assert rows[0][0] == "Stackelberg (lambda = 0) to proximal, lambda = 0.1"
    assert "generator none found; discriminator none found" in rows[0][2]
    assert "generator 0.4 to 0.5" in rows[1][2]
    steps = [step_of(-0.2, "refuted"), step_of(0.1, "suspected"), step_of(0.4, "refuted"), step_of(0.5, "refuted")]
    rows = equilibrium._rows(judged(lams, steps))
    assert [row[1] for row in rows[:-1]] == ["refuted", "suspected"]
    assert rows[0][0] == "Stackelberg (lambda = 0); proximal, lambda = 1 to Nash (lambda = infinity)"
    assert "generator none found to 0.5" in rows[0][2]


def test_a_training_s_gains_below_zero_are_none_found_and_errors_are_no_curves() -> None:
    rows = [
        {"step": 0, "proximal_gap": 0.5, "proximal_gap_error": 0.1, "generator_gain": -0.2, "discriminator_gain": 0.7},
        {"step": 9, "proximal_gap": 0.1, "proximal_gap_error": 0.1, "generator_gain": 0.1, "discriminator_gain": "nan"},
    ]
    panels = trained_sections.panels({"run": rows}, trained_sections.numeric_names(rows))
    assert list(panels) == ["proximal gap", "generator gain", "discriminator gain"]
    assert panels["generator gain"]["run"] == ([0, 9], [0.0, 0.1])
    assert np.isnan(panels["discriminator gain"]["run"][1][1])
    assert trained_sections.figure("generator_gain", -0.2) == "none found"
    assert trained_sections.figure("generator_loss", -0.2) == "-0.2"
    options = {"objective": "non-saturating", "lam": 1.0, "norm": "l2", "certify_steps": 5}
    assert "measured on the vanilla value" in trained_sections._judged_by(options)
    assert "training itself followed the non-saturating losses" in trained_sections._judged_by(options)
    assert "followed" not in trained_sections._judged_by({**options, "objective": "wasserstein"})


def test_a_proof_is_a_flat_line_whatever_the_rounding() -> None:
    """Oracle: the same picture with gains of exactly 0."""
    lams = [0.0, 1.0, float("inf")]
    pictures_of = [
        equilibrium.draw_spectrum(judged(lams, [step_of(gain, "proved", "exact") for gain in gains]))
        for gains in ([0.0, 0.0, 0.0], [1e-16, -3e-16, 2e-16])
    ]
    assert pictures_of[0] == pictures_of[1]
    assert (
        "generator 0; discriminator 0" in equilibrium._rows(judged(lams, [step_of(1e-16, "proved", "exact")] * 3))[0][2]
    )


@pytest.mark.slow  # trains, or draws whole pages
def test_the_card_of_a_run(tmp_path: Path) -> None:
    """What a model hub reads: front matter, then words; nothing of this machine, and loadable from another folder."""
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(80, 3)))
    run = fitted(tmp_path, str(tmp_path / "rows.npy"))
    card = (run.path / "card.md").read_text()
    assert card.startswith("---\n")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front == {"library_name": "saddlegan", "tags": ["gan", "saddlegan", "quadratic", "tabular"]}
    assert str(tmp_path) not in card
    for words in ("## Certificate", "gap ", "## Limits", "second moments only", "saddlegan fit rows.npy", "seed 0"):
        assert words in card
    moved = run.path.rename(tmp_path / "anywhere")
    (tmp_path / "rows.npy").unlink()
    assert saddlegan.load(moved).sample(3).shape == (3, 3)
    pictures_of = (fitted(tmp_path / "images", "digits").path / "card.md").read_text()
    assert yaml.safe_load(pictures_of.split("---\n")[1])["pipeline_tag"] == "unconditional-image-generation"
    report.write(trained(tmp_path))
    assert "nobody has judged this pair" in (tmp_path / "trained" / "card.md").read_text()


def faults(page: Page) -> list[str]:
    """Everything that a reader would trip over."""
    found = [f"console: {error}" for error in page.errors] + [f"request: {address}" for address in page.requests]
    found += [f"image without text: {index}" for index, (alt, _) in enumerate(page.images) if not alt.strip()]
    found += [f"image not loaded: {alt}" for alt, width in page.images if width == 0]
    return found + ([f"{page.overflow} pixels too wide"] if page.overflow > 0 else [])


@needs_browser
@pytest.mark.browser
@pytest.mark.slow  # starts Chromium
def test_broken_words_are_found(tmp_path: Path) -> None:
    """The check below can fail: a narrow cell that may break anywhere."""
    cell = "<td style='width: 60px; overflow-wrap: anywhere'>Stackelberg 0.587668</td>"
    (tmp_path / "bad.html").write_text(f"<title>bad</title><table style='table-layout: fixed; width: 60px'>{cell}")
    page = open_page(tmp_path / "bad.html", act=lambda tab: tab.evaluate(BROKEN_WORDS))
    assert "Stackelberg" in page.result


@pytest.mark.slow  # trains, or draws whole pages
@needs_browser
@pytest.mark.browser
def test_faults_are_found(tmp_path: Path) -> None:
    """The check below can fail: every kind of fault, planted."""
    (tmp_path / "bad.html").write_text(
        "<title>bad</title><img alt='' src='data:image/png;base64,xx'><img alt='gone' src='gone.png'>"
        "<script>console.error('planted'); nowhere();</script><p style='width: 900px'>wide</p>"
    )
    found = faults(open_page(tmp_path / "bad.html", width=400))
    for fault in ("planted", "gone.png", "image without text: 0", "image not loaded: gone", "too wide", "Uncaught"):
        assert any(fault in line for line in found), fault


# every kind of run that has a page, at a size that is done in seconds
KINDS = {
    "digits": ["fit", "digits", "--n-latent", "3"],
    "points": ["fit", "gaussian:4,3,2,1", "--n-latent", "3"],
    "table": ["fit", "TABLE"],
    "linear": ["fit", "ring", "--model", "linear", "--n-samples", "300"],
    "polynomial": ["fit", "ring", "--model", "polynomial", "--beta", "0.1", "--n-samples", "100"],
    "relu": ["fit", "ring", "--model", "relu", "--n-samples", "50"],
    "relu on a line": ["fit", "gaussian:1", "--model", "relu", "--n-samples", "40"],
    "progressive": ["fit", "digits", "--model", "progressive", "--resolutions", "4,8", "--n-components", "4,8"],
    "trained": ["train", "ring", "--steps", "20", "--hidden", "8", "--n-samples", "300", "--certify-every", "10"],
    "trained digits": ["train", "digits", "--steps", "20", "--hidden", "8"],
    "reproduced": ["reproduce", "wgan-line"],
}
WIDTHS = (1280, 400, 1920)


@needs_browser
@pytest.mark.browser
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow  # starts Chromium
def test_the_report_in_a_browser(kind: str, tmp_path: Path) -> None:
    from sklearn.datasets import load_wine

    place = tmp_path / "run"
    wine: Any = load_wine(as_frame=True)
    wine.frame.to_csv(tmp_path / "wine.csv", index=False)
    words = [str(tmp_path / "wine.csv") if word == "TABLE" else word for word in KINDS[kind]]
    if kind == "trained":
        words += ["--certify-objective", "vanilla", "--norm", "l2", "--set", "certify_steps=5"]
    assert cli.run([*words, "--out", str(place)]) == 0
    title = "A similar proximal equilibrium exists for the standard WGAN."
    if kind != "reproduced":
        if kind not in ("progressive", "trained digits"):  # the second is told how to be judged
            assert cli.run(["certify", str(place), "--steps", "5", "--restarts", "1", "--batch-size", "16"]) == 0
        title = title_of(runs.Run.open(place))
    alone = tmp_path / "elsewhere" / "page.html"  # one file: it must not need its neighbours
    alone.parent.mkdir()
    alone.write_bytes((place / "report.html").read_bytes())

    def read_at_every_width(tab: Tab) -> dict[int, tuple[list[str], int]]:
        found = {}
        for width in WIDTHS:
            tab.resize(width)
            found[width] = tab.evaluate(BROKEN_WORDS), tab.overflow()
        return found

    for dark in (False, True):
        page = open_page(alone, dark=dark, act=read_at_every_width)
        assert faults(page) == []
        assert page.result == {width: ([], 0) for width in WIDTHS}
    assert page.title == title
    assert page.text.count("\n") > 10
    assert kind == "reproduced" or "Real and generated" in page.text
    assert kind != "trained digits" or f"saddlegan certify {place}" in page.text


def test_the_files_of_a_run_can_be_read_by_others(tmp_path: Path) -> None:
    run = trained(tmp_path)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o777 & ~mask
    assert json.loads((run.path / "config.json").read_text())["format"] == "saddlegan-run"
