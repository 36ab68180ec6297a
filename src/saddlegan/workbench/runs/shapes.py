"""Rows of a data set and a network's samples: the same numbers, where pictures lie channel last or channel first."""

from __future__ import annotations

import torch
from torch import Tensor

from saddlegan.game import Game
from saddlegan.modules import clone


def sample_shape(game: Game) -> tuple[int, ...]:
    """Shape of one sample of the game's generator, which stays as it is."""
    with torch.no_grad():  # a copy: batch statistics of the pair stay as they are
        twin = game.replace(G=clone(game.G).eval())
        return tuple(twin.generate(twin.sample_latent(2, torch.Generator().manual_seed(0))).shape[1:])


def to_samples(rows: Tensor, shape: tuple[int, ...], image_shape: tuple[int, ...] | None) -> Tensor:
    """Rows (n, d) as the networks' samples (n, *shape).

    Args:
        rows: pictures among them channel last, as files hold them.
        shape: of one sample; (c, h, w) is what torch's convolutions make.
        image_shape: (h, w) or (h, w, c) if the rows are pictures.

    Example:
        >>> to_samples(torch.arange(12.0).reshape(1, 12), (3, 2, 2), (2, 2, 3))[0, 0]
        tensor([[0., 3.],
                [6., 9.]])
    """
    if image_shape is not None and _channel_first(shape, image_shape):
        return rows.reshape(len(rows), *image_shape).movedim(-1, 1)
    return rows.reshape(len(rows), *shape)


def to_rows(samples: Tensor, image_shape: tuple[int, ...] | None) -> Tensor:
    """What `to_samples` made rows of: (n, d), pictures channel last.

    Example:
        >>> rows = torch.arange(12.0).reshape(1, 12)
        >>> bool((to_rows(to_samples(rows, (3, 2, 2), (2, 2, 3)), (2, 2, 3)) == rows).all())
        True
    """
    if image_shape is not None and _channel_first(tuple(samples.shape[1:]), image_shape):
        samples = samples.movedim(1, -1)
    return samples.flatten(1)


def _channel_first(shape: tuple[int, ...], image_shape: tuple[int, ...]) -> bool:
    return len(image_shape) == 3 and shape == (image_shape[2], *image_shape[:2])
