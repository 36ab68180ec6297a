"""Measures of generated samples against real ones: each with the floor that real against real leaves, and its error.

No figure here is an FID: that name belongs to one network's features at one sample size. A distance means nothing by
itself; read it beside its floor.
"""

from saddlegan.metrics import features
from saddlegan.metrics._classes import inception_like
from saddlegan.metrics._distances import frechet, kernel, sliced
from saddlegan.metrics._measurement import Measurement
from saddlegan.metrics._modes import ModeMetrics, frechet_distance, mode_metrics, modes
from saddlegan.metrics._neighbours import copies, density_coverage, precision_recall
from saddlegan.metrics._track import Track, Tracked

__all__ = [
    "Measurement",
    "ModeMetrics",
    "Track",
    "Tracked",
    "copies",
    "density_coverage",
    "features",
    "frechet",
    "frechet_distance",
    "inception_like",
    "kernel",
    "mode_metrics",
    "modes",
    "precision_recall",
    "sliced",
]
