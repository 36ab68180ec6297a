"""Image networks of the experiments: DCGAN and an SN-GAN pair, for square images of 8, 16, 28, 32 or 64 pixels.

Samples are flat rows (n, height * width * channels) in the order of the workbench's data (height, width, channel), so
the same game, rules and certificates take them; inside, they are (n, channels, height, width).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from saddlegan import checks
from saddlegan.errors import InputError

SIZES = (8, 16, 28, 32, 64)


def _read(size: int, channels: int, width: int) -> tuple[int, int, int]:
    size, channels, width = (
        checks.count(name, value) for name, value in (("size", size), ("channels", channels), ("width", width))
    )
    if size not in SIZES:
        raise InputError(f"`size` must be one of {', '.join(map(str, SIZES))}, got {size}")
    if channels not in (1, 3):
        raise InputError(f"`channels` must be 1 or 3, got {channels}")
    return size, channels, width


def _start(size: int) -> tuple[int, int]:
    """Return the side of the smallest map and the number of doublings up to `size`."""
    start = 7 if size == 28 else 4
    return start, (size // start).bit_length() - 1


class ImageGenerator(nn.Module):
    """DCGAN's generator: a linear map to a small image, then doublings by transposed convolutions, tanh at the end.

    Args:
        n_latent: length of a latent.
        size: side of the images: 8, 16, 28, 32 or 64.
        channels: 1 or 3.
        width: channels before the last doubling; each earlier map has twice as many.

    References:
        Radford, Metz, Chintala, DCGAN, ICLR 2016. Batch norm is kept in the generator.

    Example:
        >>> import torch
        >>> ImageGenerator(8, size=16, width=4)(torch.zeros(3, 8)).shape
        torch.Size([3, 256])
    """

    def __init__(self, n_latent: int, *, size: int = 32, channels: int = 1, width: int = 32) -> None:
        super().__init__()
        n_latent, (size, channels, width) = checks.count("n_latent", n_latent), _read(size, channels, width)
        self.n_latent, self.size, self.channels, self.width = n_latent, size, channels, width
        start, doublings = _start(size)
        wide = width << (doublings - 1)
        layers: list[nn.Module] = [
            nn.Linear(n_latent, wide * start * start),
            nn.Unflatten(1, (wide, start, start)),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
        ]
        for _ in range(doublings - 1):
            layers += [nn.ConvTranspose2d(wide, wide // 2, 4, 2, 1), nn.BatchNorm2d(wide // 2), nn.ReLU()]
            wide //= 2
        layers += [nn.ConvTranspose2d(wide, channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).permute(0, 2, 3, 1).flatten(1)


class ImageDiscriminator(nn.Module):
    """A convolutional discriminator: strided convolutions and a linear map, DCGAN's or SN-GAN's.

    Args:
        size: side of the images: 8, 16, 28, 32 or 64.
        channels: 1 or 3.
        width: channels after the first convolution; each later map has twice as many.
        spectral: divide each weight by its largest singular value (SN-GAN); without it this is DCGAN's, less the batch
            norm, which would tie the samples of a batch together and break per-sample penalties.
        gain: times this: with 1 the output of small nets is pinned near a constant, 2 leaves room.
        activation: "softplus" (beta 4), smooth as proximal work needs it, or "leaky-relu".

    References:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks, ICLR 2018.

    Example:
        >>> import torch
        >>> ImageDiscriminator(size=16, width=4)(torch.zeros(3, 256)).shape
        torch.Size([3, 1])
    """

    def __init__(
        self,
        *,
        size: int = 32,
        channels: int = 1,
        width: int = 32,
        spectral: bool = True,
        gain: float = 2.0,
        activation: str = "softplus",
    ) -> None:
        super().__init__()
        if activation not in ("softplus", "leaky-relu"):
            raise InputError(f"`activation` must be 'softplus' or 'leaky-relu', got {activation!r}")
        size, channels, width = _read(size, channels, width)
        self.size, self.channels, self.width = size, channels, width
        self.spectral, self.gain, self.activation = spectral, checks.positive("gain", gain), activation
        start, doublings = _start(size)
        layers: list[nn.Module] = []
        narrow, wide = channels, width
        for _ in range(doublings):
            layers += [self._normal(nn.Conv2d(narrow, wide, 4, 2, 1)), self._activation()]
            narrow, wide = wide, 2 * wide
        layers += [nn.Flatten(), self._normal(nn.Linear(narrow * start * start, 1))]
        self.layers = nn.Sequential(*layers)

    def _activation(self) -> nn.Module:
        return nn.Softplus(beta=4.0) if self.activation == "softplus" else nn.LeakyReLU(0.2)

    def _normal(self, layer: nn.Module) -> nn.Module:
        return _normalised(layer, self.gain) if self.spectral else layer

    def forward(self, x: Tensor) -> Tensor:
        image = x.reshape(len(x), self.size, self.size, self.channels).permute(0, 3, 1, 2)
        return self.layers(image)


class _Gain(nn.Module):
    """Multiply a weight by a constant."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, weight: Tensor) -> Tensor:
        return self.gain * weight


def _normalised(layer: nn.Module, gain: float) -> nn.Module:
    parametrizations.spectral_norm(layer)
    if gain != 1.0:
        parametrize.register_parametrization(layer, "weight", _Gain(gain))
    return layer


def spectral_normalise(D: nn.Module, *, gain: float = 1.0) -> nn.Module:
    """Divide the weight of every linear and convolutional layer of D, in place, by its largest singular value.

    The singular value is torch's power iteration, one round per pass in training mode. Build the optimiser afterwards.

    Args:
        D: any module.
        gain: times this, so that ||W||_2 = gain: 1 makes linear layers 1-Lipschitz; small images need about 2.

    Returns:
        D itself.

    Raises:
        InputError: D has no such layer, or one is normalised already.

    References:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks, ICLR 2018.

    Example:
        >>> import torch
        >>> D = spectral_normalise(nn.Linear(6, 4))
        >>> for _ in range(50):
        ...     _ = D(torch.zeros(1, 6))
        >>> round(torch.linalg.matrix_norm(D.weight, 2).item(), 4)
        1.0
    """
    gain = checks.positive("gain", gain)
    layers = [m for m in D.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd))]
    if not layers:
        raise InputError("`D` has no linear or convolutional layer to normalise")
    for layer in layers:
        if parametrize.is_parametrized(layer, "weight"):
            raise InputError(f"`D` has a {type(layer).__name__} whose weight is parametrised already")
        _normalised(layer, gain)
    return D
