"""A separable blur, as MS-SSIM and saliency maps take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_ROWS = 64  # at a time: what is between the two directions stays in the processor's cache
Float = TypeVar("Float", np.float32, np.float64)


def gaussian_taps(sigma: float, radius: int) -> list[float]:
    """2·radius + 1 weights of a Gaussian, which sum to 1."""
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return list((weights / weights.sum()).tolist())


def row_blocks(height: int, taps: Sequence[float]) -> Iterator[slice]:
    """Rows of a picture that a blur can take by themselves: each block's result follows on the one before."""
    reach = len(taps) // 2
    for top in range(0, height - 2 * reach, _ROWS):
        yield slice(top, top + _ROWS + 2 * reach)


def blur_block(rows: NDArray[Float], taps: Sequence[float]) -> NDArray[Float]:
    """As ``blur``, of some rows, at once."""
    return _down(_down(rows, taps).T, taps).T


def blur(picture: NDArray[Float], taps: Sequence[float]) -> NDArray[Float]:
    """A picture [H, W] blurred along both axes, without the margin where taps reach out of it: [H − 2r, W − 2r].

    taps: 2r + 1 weights, symmetric. Computed in the picture's own type.
    """
    return np.concatenate([blur_block(picture[rows], taps) for rows in row_blocks(len(picture), taps)])


def _down(x: NDArray[Float], taps: Sequence[float]) -> NDArray[Float]:
    """Along the first axis."""
    reach, rows = len(taps) // 2, len(x) - len(taps) + 1
    total = taps[reach] * x[reach : reach + rows]
    for k in range(1, reach + 1):
        total += taps[reach + k] * (x[reach - k : reach - k + rows] + x[reach + k : reach + k + rows])
    return total
