"""Make `gaussian-spectrum.png`: the generator's gain against lambda in the Gaussian W2 game, enclosed exactly.

python docs/images/make_gaussian_spectrum.py
"""

from pathlib import Path

import numpy as np

from saddlegan.certify import GaussianW2Game
from saddlegan.workbench.report.figures import style

ETA = 1.7


def main() -> None:
    game = GaussianW2Game(np.diag([4.0, 1.0, 0.25]), ETA)
    lams = np.linspace(0.05, 8.0, 60) / ETA
    certificates = [game.proximal(lam=float(lam)) for lam in lams]
    lower = [max(0.0, certificate.generator_gain) for certificate in certificates]
    upper = [max(0.0, certificate.stats["generator_gain_upper"]) for certificate in certificates]
    critical = game.critical_lambda()
    with style.look():
        figure = style.new_figure(3.6)
        axes = figure.subplots()
        axes.fill_between(lams * ETA, lower, upper, color=style.SHADE, label="enclosure of the gain")
        axes.plot(lams * ETA, lower, color=style.GENERATED, label="gain of a generator found")
        axes.axhline(
            game.nash().generator_gain, color=style.INK, ls=(0, (4, 2)), label="Nash (lambda = infinity): 0.85"
        )
        axes.axvline(1.0, color=style.MUTED, ls=":", label="guaranteed in general: 1 / eta")
        axes.axvline(critical.lower * ETA, color=style.REAL, label="critical lambda: 2 / eta")
        axes.set_xlabel("lambda, in units of 1 / eta")
        axes.set_ylabel("generator's gain")
        axes.set_ylim(-0.03, 0.95)
        figure.legend(loc="outside upper left", ncols=1, fontsize=8)
        (Path(__file__).parent / "gaussian-spectrum.png").write_bytes(style.png(figure))


if __name__ == "__main__":
    main()
