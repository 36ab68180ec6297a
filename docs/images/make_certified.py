"""Train a pair plainly, then go on by the proximal rule or plainly, and certify it on the way.

    python docs/images/make_certified.py    # three seeds, ten minutes on one core; goes on where it was broken off

Writes certified.json and draws certified.png, the picture of the front page.
"""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from saddlegan import Game, certify, networks, train
from saddlegan.workbench.report.figures import style

HERE = Path(__file__).parent
SEEDS, BATCH, RATE = range(3), 128, 5e-3
PLAIN = (250, 1000)  # steps at full rate after which the pair is certified
AFTER = (1000, 2000, 3000)  # further steps, with rates that fall to 0
LAM = 1.0


def curve(n: int, source: torch.Generator) -> Tensor:
    """Points around a parabola."""
    u = torch.randn(n, 2, generator=source)
    return torch.stack([u[:, 0], 0.5 * (u[:, 0] ** 2 - 1) + 0.3 * u[:, 1]], 1)


def adam(player: torch.nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(player.parameters(), RATE, betas=(0.5, 0.9))


def measured(game: Game) -> dict[str, float | str]:
    """The proximal duality gap on 2,000 fresh points, the same for every pair."""
    rows = curve(2000, torch.Generator().manual_seed(9))
    judged = certify.proximal_duality_gap(game, rows, lam=LAM, search=certify.Search(steps=200))
    return {
        "gap": judged.gap,
        "error": judged.standard_error,
        "generator": judged.generator_gain,
        "discriminator": judged.discriminator_gain,
        "status": judged.status.name,
    }


def run(seed: int) -> dict[str, dict[str, dict[str, float | str]]]:
    torch.manual_seed(seed)
    G = networks.MLP(4, 2, hidden=(32, 32), activation="softplus")
    D = networks.MLP(2, 1, hidden=(32, 32), activation="softplus")
    game = Game(G, D, objective="vanilla", latent=4)
    source = torch.Generator().manual_seed(seed)
    gaps: dict[str, dict[str, dict[str, float | str]]] = {"before": {}, "plain": {}, "proximal": {}}
    rule = train.Alternating(game, adam(G), adam(D), generator=source)
    for step in range(1, PLAIN[-1] + 1):
        rule.step(curve(BATCH, source))
        if step in PLAIN:
            gaps["before"][str(step)] = measured(game)
    players = copy.deepcopy([G.state_dict(), D.state_dict()])
    for name in ("plain", "proximal"):
        for player, state in zip((G, D), players, strict=True):
            player.load_state_dict(state)
        source = torch.Generator().manual_seed(seed + 100)
        opt_G, opt_D = adam(G), adam(D)
        after: train.Alternating | train.Proximal = (
            train.Alternating(game, opt_G, opt_D, generator=source)
            if name == "plain"
            else train.Proximal(game, opt_G, opt_D, lam=LAM, generator=source)
        )
        for step in range(1, AFTER[-1] + 1):
            for optimiser in (opt_G, opt_D):
                optimiser.param_groups[0]["lr"] = RATE * (1.0 - step / (AFTER[-1] + 1))
            after.step(curve(BATCH, source))
            if step in AFTER:
                gaps[name][str(PLAIN[-1] + step)] = measured(game)
    return gaps


def ends(result: dict[str, dict[str, dict[str, float | str]]]) -> list[dict[str, float | str]]:
    """Before, after going on plainly, and after going on by the proximal rule."""
    return [list(result[name].values())[-1] for name in ("before", "plain", "proximal")]


def found(point: dict[str, float | str]) -> float:
    """What both players could gain; a gain below zero is a search that found none."""
    return sum(max(0.0, float(point[player])) for player in ("generator", "discriminator"))


def draw(results: dict[str, dict[str, dict[str, dict[str, float | str]]]]) -> bytes:
    names = ("plain training,\n1,000 steps", "then 3,000 steps\nplainly", "or 3,000 steps by\nthe proximal rule")
    colours = (style.MUTED, style.REAL, style.GENERATED)
    with style.look():
        figure = style.new_figure(2.6)
        axes = figure.subplots()
        for index, result in enumerate(results.values()):
            for place, (point, colour) in enumerate(zip(ends(result), colours, strict=True)):
                axes.errorbar(
                    place + 0.12 * (index - 1),
                    found(point),
                    yerr=2.0 * float(point["error"]),
                    color=colour,
                    capsize=3,
                    marker="o",
                    ms=5,
                )
        axes.axhline(0.0, color=style.MUTED, lw=0.8)
        axes.set_xticks(range(len(names)), names)
        axes.set_ylabel("gains found, lambda = 1")
        axes.grid(True, axis="y")
        return style.png(figure)


def main() -> None:
    torch.set_num_threads(1)
    kept = HERE / "certified.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    for seed in SEEDS:
        if str(seed) not in results:
            results[str(seed)] = run(seed)
            kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    with Image.open(io.BytesIO(draw(results))) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(HERE / "certified.png", optimize=True)
    for seed, result in results.items():
        words = [f"{found(point):.3f} +- {point['error']:.3f} ({point['status']})" for point in ends(result)]
        print(f"seed {seed}: before {words[0]}, plainly {words[1]}, proximal {words[2]}")


if __name__ == "__main__":
    main()
