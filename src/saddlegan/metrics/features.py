"""What a measure looks at: the pixels, a random convolution net, a classifier trained here, or a network from a file.

Any callable from a block of rows to a block of features will do; these are the ones at hand. None is the Inception
network, so no distance of theirs may be compared with published FIDs.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import DataError, InputError
from saddlegan.metrics._imagenet import ImageNet
from saddlegan.metrics._pictures import image_shape_of, pictures, value_range_of

__all__ = ["Classifier", "ImageNet", "RandomConvolution", "from_file", "pixels"]

WIDTHS = (16, 32, 64)  # channels of the random convolutions, each of stride 2
BODY_WIDTHS = (24, 48, 96)  # channels of a classifier's
EPOCHS, STEPS = (12, 20), 1200  # least and most passes of a classifier; within them so many steps
DROPPED = 0.3  # share of a classifier's inner values that is dropped while it learns
FORMAT = 2  # of what a classifier is and how it is trained: raise it when that changes
SMALLEST_SIDE = 2  # no convolution of stride 2 below it
TEMPERATURES = (-3.0, 3.0)  # natural logarithms of those that a classifier may be calibrated by


def pixels(rows: Any) -> Any:
    """The rows themselves: what every measure takes if `features` is None.

    Example:
        >>> pixels(np.ones((2, 3))).shape
        (2, 3)
    """
    return rows


class RandomConvolution(nn.Module):
    """Means and spreads over the picture of a random convolution net's channels, at each of its layers.

        h_0 = x,   h_l = leaky_relu(W_l * h_{l-1}),   features = (mean h_l, sd h_l) for l = 0, 1, ...

    Nothing is trained: the same seed gives the same features on every data set. They see texture and colour at
    several scales, not content.

    Args:
        image_shape: (h, w) or (h, w, c) of a row.
        value_range: the numbers of black and white.
        random_state: seed of the weights.

    Raises:
        InputError: a shape or range of no image.

    Example:
        >>> features = RandomConvolution((8, 8))
        >>> features(torch.rand(3, 64)).shape
        torch.Size([3, 226])
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        *,
        value_range: tuple[float, float] = (0.0, 1.0),
        random_state: RandomState = 0,
    ) -> None:
        super().__init__()
        self.image_shape, self.value_range = image_shape_of(image_shape), value_range_of(value_range)
        draw = checks.generator(random_state)
        self.layers = nn.ModuleList(_convolutions(self.image_shape, draw))

    def forward(self, x: Tensor) -> Tensor:
        h = pictures(x, self.image_shape, self.value_range)
        found = []
        for layer in (None, *self.layers):
            h = h if layer is None else functional.leaky_relu(layer(h), 0.2)
            flat = h.flatten(2)
            mean = flat.mean(2)
            # torch's own variance goes number by number: several times as slow on maps as small as these
            found += [mean, (flat - mean[..., None]).square().mean(2).sqrt()]
        return torch.cat(found, 1)


class Classifier(nn.Module):
    """A small classifier trained on the data's own labels: its last hidden layer as features, and its probabilities.

    `Classifier.fit(X, y)` trains; calling it gives features (n, 64), `probabilities` what `inception_like` asks for.

    Attributes:
        accuracy: share of held-out rows that it names rightly; features of a poor classifier say little.
        held_out: indices of the rows that it was not trained on: real rows for comparisons.
        classes: the labels in the order of the probabilities' columns.
    """

    center: Tensor
    scale: Tensor

    def __init__(
        self, body: nn.Module, head: nn.Linear, classes: tuple[Any, ...], center: Tensor, scale: Tensor
    ) -> None:
        super().__init__()
        self.body, self.head, self.classes, self.accuracy = body, head, classes, math.nan
        self.held_out = np.empty(0, dtype=np.int64)
        self.register_buffer("center", center)
        self.register_buffer("scale", scale)

    @classmethod
    def fit(
        cls,
        X: Any,
        y: Any,
        *,
        image_shape: tuple[int, ...] | None = None,
        random_state: RandomState = 0,
        epochs: int | None = None,
        batch_size: int = 64,
        device: torch.device | str | None = None,
        cache: str | Path | None = None,
    ) -> Classifier:
        """Train by cross-entropy with Adam on four fifths of the rows; the rest gives `accuracy` and the temperature.

        Args:
            X: rows (n, ...).
            y: labels (n,).
            image_shape: (h, w) or (h, w, c) for convolutions; a plain net if None.
            random_state: seed of split, weights and order.
            epochs: passes over the rows; if None as many as make 1,200 steps, but 12 to 20.
            batch_size: rows a step.
            device: where to train and stay; the CPU if None.
            cache: folder of trained classifiers: one that was trained on the same rows and labels in the same way is
                read from there, a new one is kept there. A source of randomness that moves on, in place of a seed, is
                never the same way.

        Returns:
            The classifier, in evaluation mode.

        Raises:
            InputError: labels that do not fit the rows, fewer than 2 classes, or fewer than 10 rows.
            DataError: the cache holds something else under the classifier's name.

        Example:
            >>> x = np.random.default_rng(0).standard_normal((200, 2))
            >>> found = Classifier.fit(x, x[:, 0] > 0, epochs=10)
            >>> found.accuracy > 0.8, found.classes, found.probabilities(x).shape
            (True, (False, True), (200, 2))
        """
        rows = torch.as_tensor(checks.rows(X)).detach().flatten(1).to(device="cpu", dtype=torch.float32)
        labels = np.asarray(torch.as_tensor(checks.rows(y, "y")).cpu())
        if labels.shape != (len(rows),) or len(rows) < 10:
            raise InputError(f"`y` must hold a label for each of at least 10 rows, got {labels.shape} for {len(rows)}")
        if not torch.isfinite(rows).all():
            raise InputError("`X` holds NaN or infinity")
        names, targets = np.unique(labels, return_inverse=True)
        if len(names) < 2:
            raise InputError("`y` must hold at least 2 classes")
        batch_size = checks.count("batch_size", batch_size)
        per_epoch = math.ceil(0.8 * len(rows) / batch_size)
        few, many = EPOCHS
        epochs = max(few, min(many, STEPS // per_epoch)) if epochs is None else checks.count("epochs", epochs)
        way = (image_shape, random_state, epochs, batch_size)
        path = None if cache is None or not isinstance(random_state, int) else _cache_path(cache, rows, labels, way)
        draw = checks.generator(random_state)
        order = torch.randperm(len(rows), generator=draw)
        held, used = order[: len(rows) // 5], order[len(rows) // 5 :]
        center, scale = rows[used].mean(), rows[used].std().clamp_min(1e-12)
        d = rows.shape[1]
        if image_shape is None:
            body: nn.Module = nn.Sequential(_linear(d, 128, draw), nn.ReLU(), _linear(128, 64, draw), nn.ReLU())
        else:
            shape = image_shape_of(image_shape)
            if math.prod(shape) != d:
                raise InputError(f"`image_shape` must have {d} values, got {shape}")
            body = _ConvolutionBody(shape, draw)
        found = cls(body, _linear(64, len(names), draw), tuple(names.tolist()), center, scale).to(device)
        found.held_out = held.numpy()
        if path is not None and path.is_file():
            return _read(found, path)
        target = torch.as_tensor(targets).to(device)
        optimizer = torch.optim.Adam(found.parameters(), lr=1e-3)
        steps = epochs * math.ceil(len(used) / batch_size)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(epochs):
            for batch in used[torch.randperm(len(used), generator=draw)].split(batch_size):
                optimizer.zero_grad()
                loss = functional.cross_entropy(found.head(found(rows[batch].to(device))), target[batch])
                loss.backward()
                optimizer.step()
                rate.step()
        found.eval().requires_grad_(False)
        found._calibrate(rows[held], target[held])
        right = found.probabilities(rows[held]).argmax(1) == targets[found.held_out]
        found.accuracy = float(right.mean())
        if path is not None:
            _keep(found, path)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.body((x.flatten(1) - self.center) / self.scale)

    @torch.no_grad()
    def _calibrate(self, rows: Tensor, target: Tensor) -> None:
        """Divide the logits by the temperature that fits held-out rows best: what is learned by heart is too sure.

        No order of probabilities changes, so neither does the accuracy (Guo et al., On Calibration of Modern Neural
        Networks, ICML 2017).
        """
        logits = self.head(self(rows.to(self.center))).double()
        found: Any = minimize_scalar(
            lambda log: float(functional.cross_entropy(logits / math.exp(log), target)),
            bounds=TEMPERATURES,
            method="bounded",
        )
        for parameter in self.head.parameters():
            parameter.div_(math.exp(found.x))

    def probabilities(self, rows: Any) -> np.ndarray:
        """Probabilities (n, classes) of rows, an array or a tensor; hand this to `inception_like` as `features`."""
        with torch.no_grad():
            return self.head(self(torch.as_tensor(rows).to(self.center))).softmax(1).cpu().double().numpy()


def _cache_path(cache: str | Path, rows: Tensor, labels: np.ndarray, way: tuple[Any, ...]) -> Path:
    """Where the classifier of these rows, labels and settings lies: the name is a hash of them all."""
    seen = hashlib.sha256(repr((tuple(rows.shape), labels.dtype.str, way, FORMAT)).encode())
    for block in rows.split(4096):
        seen.update(block.numpy().tobytes())
    seen.update(repr(labels.tolist()).encode())
    return Path(cache) / f"classifier-{seen.hexdigest()[:20]}.safetensors"


def _keep(found: Classifier, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in found.state_dict().items()}
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    save_file(state, str(partial), metadata={"accuracy": repr(found.accuracy)})
    partial.replace(path)  # whole or not at all: others may read it


def _read(found: Classifier, path: Path) -> Classifier:
    try:
        with safe_open(str(path), framework="pt") as kept:
            found.load_state_dict({name: kept.get_tensor(name) for name in kept.keys()})  # noqa: SIM118 (no mapping)
            found.accuracy = float(kept.metadata()["accuracy"])
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no classifier of this shape; delete it ({str(error).splitlines()[0]})") from error
    return found.eval().requires_grad_(False)


def from_file(path: str | Path) -> nn.Module:
    """Load a TorchScript network from a file: whatever it was trained on, its outputs become the features.

    A TorchScript file runs code of its own; load only files that you trust.

    Args:
        path: what `torch.jit.save` wrote.

    Returns:
        The module on the CPU, in evaluation mode; it is called with tensors of rows as they come.

    Raises:
        DataError: no such file, or not TorchScript.
    """
    if not Path(path).is_file():
        raise DataError(f"{path} is not a file")
    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path} is not a TorchScript file: {str(error).splitlines()[0]}") from error


class _ConvolutionBody(nn.Module):
    """Convolutions, each with a maximum over 2 x 2; dropout, since a few thousand rows are learned by heart."""

    def __init__(self, shape: tuple[int, ...], draw: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        layers = list(_convolutions(shape, draw, widths=BODY_WIDTHS, stride=1))
        shrunk = 2 ** len(layers)
        n = (layers[-1].out_channels if layers else (*shape, 1)[2]) * (shape[0] // shrunk) * (shape[1] // shrunk)
        self.layers, self.last = nn.ModuleList(layers), _linear(n, 64, draw)
        self.dropout = _Dropout(draw)

    def forward(self, x: Tensor) -> Tensor:
        h = pictures(x, self.shape, (0.0, 1.0))
        for layer in self.layers:
            h = functional.max_pool2d(functional.relu(layer(h)), 2)
        return self.dropout(functional.relu(self.last(self.dropout(h.flatten(1)))))


class _Dropout(nn.Module):
    """Dropout from a generator of its own: torch's draws from the global one."""

    def __init__(self, draw: torch.Generator) -> None:
        super().__init__()
        self._draw = draw

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.rand(x.shape, generator=self._draw, dtype=x.dtype).to(x.device) >= DROPPED
        return x * kept / (1.0 - DROPPED)


def _convolutions(
    shape: tuple[int, ...], draw: torch.Generator, *, widths: tuple[int, ...] = WIDTHS, stride: int = 2
) -> Iterator[nn.Conv2d]:
    """Convolutions as long as there is a side to halve; weights from `draw`, never the global state."""
    side, before = min(shape[:2]), shape[2] if len(shape) == 3 else 1
    for width in widths:
        if side < SMALLEST_SIDE:
            return
        layer = nn.Conv2d(before, width, 3, stride=stride, padding=1, device="meta").to_empty(device="cpu")
        _initialise(layer, 9 * before, draw)
        yield layer
        before, side = width, (side + stride - 1) // 2  # a stride rounds up, a maximum over 2 x 2 down


def _linear(n_in: int, n_out: int, draw: torch.Generator) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu")  # unset: the global state is not touched
    _initialise(layer, n_in, draw)
    return layer


def _initialise(layer: nn.Module, fan_in: int, draw: torch.Generator) -> None:
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name == "bias":
                parameter.zero_()
            else:
                parameter.normal_(0.0, math.sqrt(2.0 / fan_in), generator=draw)
