"""Diagnosis. Oracle: pairs with one planted fault each (tests/planted.py)."""

from __future__ import annotations

import copy
import dataclasses
import html
import json
import pathlib

import pytest
import torch
from sklearn.datasets import load_digits

from planted import NAMES, planted
from saddlegan import Game, certify, fit, networks
from saddlegan.errors import InputError


def _named(name: str, seed: int) -> None:
    game, data = planted(name, seed)
    # another stream than that of the data: equal seeds would draw latents in step with them
    found = certify.diagnose(game, data, random_state=10_000 + seed)
    assert found.faults == (() if name.startswith("healthy") else (name,)), dict(found.findings)


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_planted_faults_are_named_and_healthy_pairs_are_not(name: str, seed: int) -> None:
    _named(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_planted_faults_over_twenty_seeds(name: str) -> None:
    for seed in range(20):
        _named(name, seed)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("name", ["healthy", "collapsed", "missing modes", "memorising"])
def test_findings_about_samples_do_not_depend_on_the_datas_units(name: str, scale: float) -> None:
    game, x = planted(name, 0)
    assert isinstance(x, torch.Tensor)
    before = certify.diagnose(game, x)
    with torch.no_grad():
        for parameter in game.G.parameters():
            parameter.mul_(scale)
    after = certify.diagnose(game, scale * x)
    for figure in ("spread of G(z) / spread of data", "data not covered", "distance to the data / between data"):
        assert after.findings[figure] == pytest.approx(before.findings[figure], rel=1e-2, abs=1e-2)


def test_the_pair_and_all_random_states_are_left_as_they_were() -> None:
    game, x = planted("healthy", 0)
    game.G.train()
    before = copy.deepcopy((game.G.state_dict(), game.D.state_dict()))
    state = torch.get_rng_state()
    certify.diagnose(game, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert game.G.training
    assert all(p.grad is None for p in (*game.G.parameters(), *game.D.parameters()))
    for old, new in zip(before, (game.G.state_dict(), game.D.state_dict()), strict=True):
        assert all(torch.equal(old[name], new[name]) for name in old)


def test_a_diagnosis_shows_itself(tmp_path: pathlib.Path) -> None:
    game, x = planted("collapsed", 0)
    found = certify.diagnose(game, x)
    assert repr(found) == "Diagnosis(collapsed)"
    assert "Collapse" in str(found)
    found.report(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>collapsed</h1>" in page
    assert all(name.split(" /")[0] in page for name in found.findings)
    assert found.plot().axes[0].get_title() == "collapsed"


@pytest.mark.slow  # whole searches
@pytest.mark.filterwarnings("ignore::saddlegan.errors.BudgetWarning")
def test_a_watch_says_what_is_wrong() -> None:
    game, x = planted("collapsed", 0)
    quick = certify.Search(steps=4, restarts=1)
    watch = certify.Watch(game, x, every=5, lam=float("inf"), search=quick, diagnose=True)
    watch(4), watch(5), watch(10)
    assert [step for step, _ in watch.diagnoses] == [5, 10] == [step for step, _ in watch.history]
    found = watch.diagnoses[0][1]
    assert found.faults == ("collapsed",)
    assert list(found.certificates) == ["proximal duality gap"]
    kept = json.loads(json.dumps(found.as_dict()))
    assert kept["faults"] == ["collapsed"]
    assert kept["findings"].keys() == found.findings.keys()
    assert not certify.Watch(game, x, every=5).diagnoses


@pytest.mark.filterwarnings("ignore::saddlegan.errors.BudgetWarning")
def test_a_certificate_shows_itself() -> None:
    game, x = planted("healthy", 0)
    found = certify.nash(game, x, search=certify.Search(steps=8, restarts=1, evaluations=4))
    page = found._repr_html_()
    assert html.escape(found.sentence) in page
    assert f"{found.gap:.4g}" in page
    bars, curves = found.plot().axes
    assert bars.get_title() == f"nash: {found.verdict}"
    heights = [patch.get_height() for patch in bars.patches]
    assert heights == pytest.approx([found.generator_gain, found.discriminator_gain])
    assert {line.get_label() for line in curves.get_lines()} == {"generator", "discriminator"}
    endless = dataclasses.replace(found, generator_gain=float("inf"), stats={})
    assert len(endless.plot().axes) == 1


def test_bad_input_is_refused_by_name() -> None:
    game, x = planted("healthy", 0)
    assert isinstance(x, torch.Tensor)
    with pytest.raises(InputError, match="32"):
        certify.diagnose(game, x[:10])
    with pytest.raises(InputError, match="samples of shape"):
        certify.diagnose(game, torch.zeros(64, 5))


def test_a_solved_pair_stands_still_by_right() -> None:
    """Oracle: the exact certificate proves the pair, and both its gradients are nothing."""
    X = torch.from_numpy(load_digits().data)
    game = fit.QuadraticWGAN(n_latent=2).fit(X).game_
    assert certify.nash(game, X).verdict == "proved"
    found = certify.diagnose(game, X)
    assert found.findings["gradient of G"] < 1e-6
    assert "vanishing gradients" not in found.faults


def test_samples_that_are_told_apart_are_said_to_be() -> None:
    """Gaussian samples, wider than Gaussian data: no known fault, and not a word of praise; as wide: praise."""
    source = torch.Generator().manual_seed(0)
    X = torch.randn(1024, 2, generator=source)
    for width, said in ((1.6, "plainly told"), (1.0, "No fault was found")):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            G, D = torch.nn.Linear(2, 2, bias=False), networks.MLP(2, 1, hidden=(16,), activation="softplus")
        with torch.no_grad():
            G.weight.copy_(width * torch.eye(2))
        found = certify.diagnose(Game(G, D, latent=2), X, random_state=1)
        assert found.faults == ()
        assert said in found.sentences[0]
