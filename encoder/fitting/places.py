"""Where new Gaussians go and what lies there: on the host, or on the device of the pictures.

Both sides have the same distributions, with other random numbers. Shapes: pictures [B, C, H, W] (none in front on the
host, which knows one), maps [B, H, W], points [B, n, 2] (x, y in pixels, float64).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from igs.encoder.fitting import init, init_device


class Places(Protocol):
    """What :class:`igs.encoder.fitting.population.Population` asks."""

    def gradient_map(self, pictures: Tensor) -> Tensor:
        """‖∇I‖ of each picture."""
        ...

    def draw(self, maps: Tensor, n: int, uniform: float, power: float, factor: Tensor | None = None) -> Tensor:
        """n points in each picture, see :func:`igs.encoder.fitting.init.draw_positions`. factor: [H, W] or as maps."""
        ...

    def top(self, maps: Tensor, n: int) -> Tensor:
        """The centres of each map's n largest pixels."""
        ...

    def values(self, pictures: Tensor, points: Tensor) -> Tensor:
        """What the pictures hold at points, between pixel centres: [B, n, C] float32."""
        ...


class HostPlaces:
    """In NumPy, for one picture in the processor's memory.

    as_drawn: points come in the order of the draw instead of row by row, which is faster to draw.
    """

    def __init__(self, rng: np.random.Generator, as_drawn: bool = False) -> None:
        self._rng, self._as_drawn = rng, as_drawn

    @staticmethod
    def _one(tensor: Tensor, dims: int) -> NDArray[Any]:
        """The only picture's array, without the batch in front; a view."""
        return tensor.reshape(tensor.shape[-dims:]).numpy()

    def _pixels(self, pictures: Tensor) -> NDArray[np.float32]:
        return np.moveaxis(self._one(pictures, 3), 0, -1)

    def gradient_map(self, pictures: Tensor) -> Tensor:
        return torch.from_numpy(init.gradient_map(self._pixels(pictures)))[None]

    def draw(self, maps: Tensor, n: int, uniform: float, power: float, factor: Tensor | None = None) -> Tensor:
        by = None if factor is None else factor.numpy().astype(np.float64)
        found = init.draw_positions(self._one(maps, 2), n, uniform, power, self._rng, by, as_drawn=self._as_drawn)
        return torch.from_numpy(found)[None]

    def top(self, maps: Tensor, n: int) -> Tensor:
        return torch.from_numpy(init.top_positions(self._one(maps, 2).astype(np.float64), n))[None]

    def values(self, pictures: Tensor, points: Tensor) -> Tensor:
        return torch.from_numpy(init.sample_bilinear(self._pixels(pictures), self._one(points, 2)))[None]


class DevicePlaces:
    """In PyTorch, where the pictures are: nothing is brought home. Points come in the order of the draw."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    @staticmethod
    def _many(pictures: Tensor) -> Tensor:
        return pictures.view(-1, *pictures.shape[-3:])

    def gradient_map(self, pictures: Tensor) -> Tensor:
        return init_device.gradient_map(self._many(pictures))

    def draw(self, maps: Tensor, n: int, uniform: float, power: float, factor: Tensor | None = None) -> Tensor:
        return init_device.draw_positions(maps, n, uniform, power, int(self._rng.integers(2**63)), factor)

    def top(self, maps: Tensor, n: int) -> Tensor:
        return init_device.top_positions(maps, n)

    def values(self, pictures: Tensor, points: Tensor) -> Tensor:
        return init_device.sample_bilinear(self._many(pictures), points)


def blur_planes(planes: Tensor, taps: Sequence[float]) -> Tensor:
    """Planes [B, H, W] blurred along both axes, on either side; beyond the edge lie its pixels.

    taps: 2r + 1 weights, symmetric. One shifted plane after the other: on two cores this takes a tenth of the time of
    a convolution.
    """
    reach = len(taps) // 2
    x = functional.pad(planes, (reach, reach, reach, reach), mode="replicate")
    for axis in (-1, -2):
        length = x.shape[axis] - 2 * reach
        total = x.narrow(axis, reach, length) * taps[reach]
        for k in range(1, reach + 1):
            total.add_(x.narrow(axis, reach - k, length), alpha=taps[reach - k])
            total.add_(x.narrow(axis, reach + k, length), alpha=taps[reach + k])
        x = total
    return x
