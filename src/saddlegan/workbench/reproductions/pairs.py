"""Image pairs for the experiments: made, trained for a while, sampled, and measured on a classifier's features."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from saddlegan import metrics, networks, train
from saddlegan.game import Game
from saddlegan.metrics.features import RandomConvolution
from saddlegan.modules import evaluating
from saddlegan.workbench.reproductions.pictures import Pictures

LATENT = 64
BATCH = 64
EVALUATED = 2_000  # samples behind a figure


@dataclasses.dataclass(frozen=True)
class Judge:
    """Measures samples against held-out pictures, on a classifier's features where there are labels.

    Attributes:
        features: what the distances look at.
        words: that in words, with the classifier's accuracy.
        real: features of the held-out pictures.
        floor: Frechet distance of training pictures to them, as many as there are held out.
        probabilities: of a classifier's classes, or None.
        real_score: the held-out pictures' inception-like score, or NaN.
    """

    features: nn.Module
    words: str
    real: np.ndarray
    floor: float
    probabilities: Callable[[np.ndarray], np.ndarray] | None
    real_score: float

    @torch.no_grad()
    def frechet(self, rows: np.ndarray) -> float:
        """Frechet distance of samples (n, d) to the held-out pictures, on the features."""
        return metrics.frechet_distance(self.features(torch.from_numpy(rows)).numpy(), self.real)

    def score(self, rows: np.ndarray) -> float:
        """Inception-like score of samples (n, d); NaN without labels."""
        if self.probabilities is None:
            return float("nan")
        P = self.probabilities(rows)
        return metrics.inception_like(real=P, generated=P, random_state=0).value

    def histogram(self, rows: np.ndarray) -> np.ndarray:
        """Share of samples in each class."""
        if self.probabilities is None:
            return np.full(1, np.nan)
        P = self.probabilities(rows)
        return np.bincount(P.argmax(1), minlength=P.shape[1]) / len(P)


def judge(pictures: Pictures, cache: Path | None) -> Judge:
    """A judge of samples; its classifier is trained once and kept in `cache`."""
    probabilities = None
    if pictures.labels is None:
        features: nn.Module = RandomConvolution(pictures.shape, value_range=(-1.0, 1.0))
        words = "a random convolution net's features"
    else:
        classifier = pictures.classifier(cache)
        features, probabilities = classifier, classifier.probabilities
        words = f"a classifier's 64 features (held-out accuracy {100 * classifier.accuracy:.1f}%)"
    with torch.no_grad():
        real, other = (
            features(torch.from_numpy(rows)).numpy()
            for rows in (pictures.held_out, pictures.train[: len(pictures.held_out)])
        )
    found = Judge(features, words, real, metrics.frechet_distance(other, real), probabilities, float("nan"))
    return dataclasses.replace(found, real_score=found.score(pictures.held_out))


def make(pictures: Pictures, seed: int, *, width: int, spectral: bool = True) -> tuple[nn.Module, nn.Module]:
    """A fresh pair; torch's global generator is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1_000 + seed)
        side, channels = pictures.side, pictures.channels
        G = networks.ImageGenerator(LATENT, size=side, channels=channels, width=width)
        return G, networks.ImageDiscriminator(size=side, channels=channels, width=width, spectral=spectral)


class Batches:
    """Batches of training pictures, drawn with replacement from one seed.

    Args:
        rows: pictures (n, d).
        seed: of the draws.
    """

    def __init__(self, rows: np.ndarray, seed: int) -> None:
        self._rows = torch.from_numpy(rows)
        self._draw = torch.Generator().manual_seed(2_000 + seed)

    def __call__(self, n: int = BATCH) -> Tensor:
        """The next n pictures (n, d)."""
        return self._rows[torch.randint(len(self._rows), (n,), generator=self._draw)]


@torch.no_grad()
def sample(G: nn.Module, n: int, seed: int = 0) -> np.ndarray:
    """N samples (n, d) in evaluation mode, the same latents for the same seed."""
    z = torch.randn(n, LATENT, generator=torch.Generator().manual_seed(3_000 + seed))
    with evaluating(G):
        return torch.cat([G(block) for block in z.split(256)]).numpy()


def play(rule: train.AbstractRule, batches: Batches, steps: int, average: train.MovingAverage | None = None) -> float:
    """So many steps of a rule; the processor seconds they took."""
    began = time.process_time()
    for _ in range(steps):
        rule.step(batches())
        if average is not None:
            average.update()
    return time.process_time() - began


def adam(module: nn.Module, rate: float = 1e-3) -> torch.optim.Adam:
    """Adam with the decays of image GANs."""
    return torch.optim.Adam(module.parameters(), rate, betas=(0.5, 0.999))


@torch.no_grad()
def value(game: Game, rows: np.ndarray, n: int = 512) -> float:
    """V on so many pictures and as many fixed latents, both players in evaluation mode."""
    z = torch.randn(n, LATENT, generator=torch.Generator().manual_seed(4_000))
    with evaluating(game.G, game.D):
        return float(game.value(torch.from_numpy(rows[:n]), z))
