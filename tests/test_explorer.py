"""Oracle: the generator itself, run on the latents that the page shows; a browser in which everything is pressed."""

import json
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from browser import Tab, find_chromium, open_page
from saddlegan import metrics
from saddlegan.errors import RunError
from saddlegan.workbench import cli
from saddlegan.workbench.report import explorer
from saddlegan.workbench.runs.folder import Run
from test_procogan import pictures

needs_browser = pytest.mark.skipif(find_chromium() is None, reason="no Chromium found")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("explorer") / "digits"
    assert cli.run(["fit", "digits", "--n-latent", "14", "--out", str(out)]) == 0
    assert cli.run(["explore", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explorer")
    np.save(folder / "colours.npy", pictures(n=200))
    words = ["fit", str(folder / "colours.npy"), "--progressive", "--n-components", "6,12,30"]
    assert cli.run([*words, "--out", str(folder / "run")]) == 0
    return folder / "run"


def payload(page):
    found = re.search(r'id="payload">(.*?)</script>', page.read_text(), re.S)
    assert found is not None
    return json.loads(found[1])


def decoded(raw):
    import base64

    d = int(np.prod(raw["shape"]))
    mean = raw["meanLow"] + raw["meanStep"] * np.frombuffer(base64.b64decode(raw["mean"]), "<u2")
    vectors = np.frombuffer(base64.b64decode(raw["vectors"]), np.int8).reshape(-1, d) * np.array(raw["scales"])[:, None]
    return mean, vectors


@pytest.mark.slow  # starts Chromium
def test_the_page_holds_the_generator(digits):
    run = Run.open(digits)
    raw = payload(digits / "explorer.html")["sets"][0]["views"][0]
    mean, vectors = decoded(raw)
    G: Any = run.load_generator()
    z = torch.randn(50, 14, generator=torch.Generator().manual_seed(0))
    exact = G(z.to(G.mean)).detach().numpy()
    weights = np.sqrt(np.array(raw["values"]) - raw["beta"])
    made = mean + (z.numpy() * weights) @ vectors
    assert np.abs(made - exact).max() < 0.02 * (exact.max() - exact.min())
    assert np.sqrt(np.mean((made - exact) ** 2)) < 0.004 * (exact.max() - exact.min())


@pytest.mark.slow  # solves several stages
def test_stages_of_a_progressive_run(staged):
    raw = payload(staged / "explorer.html")
    assert [view["shape"] for view in raw["sets"][0]["views"]] == [[4, 4, 3], [8, 8, 3], [16, 16, 3]]
    assert [len(view["values"]) for view in raw["sets"][0]["views"]] == [6, 12, 30]
    certificate = json.loads((staged / "certificate.json").read_text())
    for view, stage in zip(raw["sets"][0]["views"], certificate["stages"], strict=True):
        np.testing.assert_allclose(view["values"], stage["spectrum"][:-1], rtol=1e-4)
        above = (np.array(view["values"]) - view["beta"]).clip(0).sum()
        assert above == pytest.approx(stage["solution"]["value"], rel=1e-4)


@pytest.mark.slow  # solves several stages
def test_every_stage_of_a_report_has_a_distance_beside_its_floor(staged):
    """Oracle: the distance of the run's own samples, drawn elsewhere, from all of its pictures."""
    sections = json.loads((staged / "report.json").read_text())["sections"]
    found = next(part["data"]["distances"] for part in sections if part["id"] == "stages")
    assert len(found) == 3
    assert all(each["standard_error"] > 0 for each in found)
    X = np.load(staged.parent / "colours.npy").reshape(200, -1).astype(np.float64)
    net = metrics.features.RandomConvolution((16, 16, 3), value_range=(0.0, 255.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = metrics.kernel(real=X, generated=Run.open(staged).sample(1000, 3), features=net, random_state=0)
    spread = 6 * (found[-1]["standard_error"] + whole.standard_error)
    assert found[-1]["value"] == pytest.approx(whole.value, abs=spread)


@pytest.mark.slow  # solves several stages
def test_runs_that_cannot_be_explored(tmp_path, capsys, staged):
    assert cli.run(["fit", "ring", "--n-latent", "1", "--out", str(tmp_path / "ring")]) == 0
    words = ["fit", "digits", "--features", "relu:32", "--n-latent", "4", "--out", str(tmp_path / "relu")]
    assert cli.run(words) == 0
    with pytest.raises(RunError, match="not of images"):
        explorer.write(Run.open(tmp_path / "ring"))
    with pytest.raises(RunError, match="without --features"):
        explorer.write(Run.open(tmp_path / "relu"))
    capsys.readouterr()
    assert cli.run(["explore", str(tmp_path / "nothing")]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert cli.run(["explore", str(staged), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text() == (staged / "explorer.html").read_text()
    with pytest.raises(RunError, match="cannot write"):
        explorer.write(Run.open(staged), tmp_path / "no" / "page.html")
    (staged / "stages.safetensors").rename(tmp_path / "stages")
    try:
        (staged / "stages.safetensors").write_bytes(b"junk")
        with pytest.raises(RunError, match="damaged"):
            explorer.write(Run.open(staged))
    finally:
        (tmp_path / "stages").replace(staged / "stages.safetensors")


PIXELS = (
    "(() => {{ const c = {0}; return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].join() }})()"
)
PORTRAIT = PIXELS.format("document.getElementById('portrait')").replace("{{", "{").replace("}}", "}")
TILE = PIXELS.format("document.querySelector('#sheet canvas')").replace("{{", "{").replace("}}", "}")
SPECTRUM = "document.getElementById('spectrum').toDataURL()"


def slide(tab: Tab, name: str, value: float) -> None:
    tab.evaluate(
        f"(() => {{ const s = document.getElementById('{name}'); s.value = {value};"
        " s.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def text(tab: Tab, name: str) -> str:
    return tab.evaluate(f"document.getElementById('{name}').textContent")


@pytest.mark.slow  # starts Chromium
@needs_browser
@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 400])
def test_everything_moves_in_a_browser(staged, width):
    def act(tab: Tab) -> None:
        first, sheet = tab.evaluate(PORTRAIT), tab.evaluate(TILE)
        assert tab.evaluate("document.getElementById('portrait').width") == 16
        tab.evaluate("document.getElementById('new').click()")
        second = tab.evaluate(PORTRAIT)
        assert second != first
        assert tab.evaluate(TILE) == sheet
        tab.evaluate("document.getElementById('resample').click()")
        assert tab.evaluate(TILE) != sheet
        tab.evaluate("document.querySelectorAll('#sheet button')[5].click()")
        assert tab.evaluate("document.querySelectorAll('[aria-pressed=true]').length") == 1
        chosen = tab.evaluate(PORTRAIT)
        # a slider moves the portrait, and moving it back brings the same picture
        value = float(tab.evaluate("document.getElementById('z0').value"))
        slide(tab, "z0", -3.5)
        assert tab.evaluate(PORTRAIT) != chosen
        assert tab.evaluate("document.getElementById('z0').getAttribute('aria-valuetext')").startswith("-3.5")
        slide(tab, "z0", value)
        # beta: fewer directions, another portrait and sheet, at its end the mean image and value 0
        before, beta, sheet = text(tab, "n-value"), text(tab, "n-beta"), tab.evaluate(TILE)
        assert text(tab, "n-kept") == "30 of 30"
        slide(tab, "beta", 0.5)
        assert text(tab, "n-beta") != beta
        assert float(text(tab, "n-value")) < float(before)
        assert int(text(tab, "n-kept").split()[0]) < 30
        assert tab.evaluate(TILE) != sheet
        drawn = tab.evaluate(SPECTRUM)
        slide(tab, "beta", 1)
        assert tab.evaluate(SPECTRUM) != drawn
        assert text(tab, "n-kept") == "0 of 30"
        assert text(tab, "n-value") == "0"
        collapsed = tab.evaluate(PORTRAIT)
        slide(tab, "beta", 0)
        tab.evaluate("document.getElementById('mean').click()")
        assert tab.evaluate(PORTRAIT) == collapsed
        # stages
        tab.evaluate("document.querySelectorAll('#stages input')[0].click()")
        assert tab.evaluate("document.getElementById('portrait').width") == 4
        assert text(tab, "n-kept") == "6 of 6"
        tab.evaluate("document.querySelectorAll('#stages input')[2].click()")
        while tab.evaluate("!document.getElementById('more').hidden"):
            tab.evaluate("document.getElementById('more').click()")
        assert tab.evaluate("document.querySelectorAll('#latents input').length") == 30

    page = open_page(staged / "explorer.html", width=width, act=act)
    assert page.errors == []
    assert page.requests == []
    assert page.overflow <= 0


@pytest.mark.slow  # starts Chromium
@needs_browser
@pytest.mark.browser
def test_the_keyboard_is_enough(digits):
    def act(tab: Tab) -> list[str]:
        reached = []
        for _ in range(60):
            tab.press("Tab")
            name = "document.activeElement.id || document.activeElement.getAttribute('aria-label') || ''"
            reached.append(tab.evaluate(name))
            if reached[-1] == "z0":
                before = tab.evaluate(PORTRAIT), tab.evaluate("document.activeElement.value")
                tab.press("ArrowRight")
                assert (tab.evaluate(PORTRAIT), tab.evaluate("document.activeElement.value")) != before
                first = tab.evaluate(PORTRAIT)
                tab.press("n")
                assert tab.evaluate(PORTRAIT) != first
            if reached[-1] == "beta":
                tab.press("End")
                assert tab.evaluate("document.getElementById('n-kept').textContent").startswith("0 of")
                tab.press("Home")
            if reached[-1] == "new":
                first = tab.evaluate(PORTRAIT)
                tab.press(" ")
                assert tab.evaluate(PORTRAIT) != first
            if reached[-1] == "sample 3":
                tab.press("Enter")
                assert tab.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        return reached

    page = open_page(digits / "explorer.html", act=act)
    assert {"new", "mean", "z0", "z11", "beta", "resample", "sample 1", "sample 24"} <= set(page.result)
    assert page.errors == []


@pytest.mark.slow  # starts Chromium
@needs_browser
@pytest.mark.browser
def test_the_browser_test_can_fail(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<button id=a onclick='nothing()'>a</button><script>fetch('x.json')</script>")
    page = open_page(bad, act=lambda tab: tab.evaluate("document.getElementById('a').click()"))
    assert page.errors
