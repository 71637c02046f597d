"""How a picture is divided into super-tiles: its squares, and what each of them deserves. Without torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from igs.encoder import rate
from igs.encoder.recipe import Recipe
from igs.format import Group

_LEAST_ERROR = 1e-10  # mean squared error of a box: no square deserves nothing
_TURNS = ((0, 0), (1, 1), (1, 0), (0, 1))  # across and down, of every other column and row


class Box(NamedTuple):
    """Whole pixels of a picture."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def pixels(self) -> int:
        return self.width * self.height

    def grown(self, margin: int, width: int, height: int) -> Box:
        """With a margin around it, inside a picture of width × height."""
        return Box(
            max(0, self.left - margin),
            max(0, self.top - margin),
            min(width, self.right + margin),
            min(height, self.bottom + margin),
        )

    def overlap(self, other: Box) -> int:
        """Pixels that both have."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0, across) * max(0, down)

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points [n, 2] lie inside, [n]."""
        x, y = points[:, 0], points[:, 1]
        return (x >= self.left) & (x < self.right) & (y >= self.top) & (y < self.bottom)


def squares(width: int, height: int, side: int) -> list[Box]:
    """A picture in parts of about equal size, none wider or higher than ``side``, in the order they are fitted in."""

    def cuts(length: int) -> list[tuple[int, int]]:
        count = math.ceil(length / side)
        at = [length * k // count for k in range(count + 1)]
        return list(itertools.pairwise(at))

    columns, rows = cuts(width), cuts(height)
    return [
        Box(left, top, right, bottom)
        for across, down in _TURNS
        for top, bottom in rows[down::2]
        for left, right in columns[across::2]
    ]


def held(points: NDArray[np.float64], boxes: Sequence[Box]) -> NDArray[np.bool_]:
    """Which points [n, 2] lie in one of the boxes, [n]."""
    found = np.zeros(len(points), bool)
    for box in boxes:
        found |= box.holds(points)
    return found


class Probe:
    """What a quick fit of a picture, r times reduced, tells of its squares: how many Gaussians they deserve.

    errors: squared, [h, w]. means: [n, 2], in the picture's pixels, inside it. A short fit has not yet all Gaussians
    where they do most. Where errors fall with the number to the power γ, they do so where every Gaussian has as much of
    the error: a square whose n have the error S deserves (S·n^γ)^(1/(1 + γ)) of them.
    """

    def __init__(self, r: int, errors: NDArray[np.float64], means: NDArray[np.float64], boxes: Sequence[Box]) -> None:
        self.reduction, self.errors, self.means = r, errors, means
        # One more in the middle of each square, which may have none.
        centres = [[(box.left + box.right) / 2, (box.top + box.bottom) / 2] for box in boxes]
        self._means = np.concatenate([means, np.array(centres, np.float64)])
        self._weights = np.ones(len(self._means))
        for box in boxes:
            own = box.holds(self._means)
            self._weights[own] = (self.error([box]) * box.pixels / own.sum()) ** (1 / (1 + rate.ERROR_FALL))

    def left(self, done: Sequence[Box]) -> float:
        """The share of the Gaussians that are not in what is done."""
        return float(self._weights[~held(self._means, done)].sum() / self._weights.sum())

    def share(self, window: Box, done: Sequence[Box]) -> float:
        """The share of a window in the Gaussians that :meth:`left` counts."""
        free = ~held(self._means, done)
        return float(self._weights[free & window.holds(self._means)].sum() / self._weights[free].sum())

    def error(self, boxes: Sequence[Box]) -> float:
        """The mean squared error of boxes; above 0."""
        r, total, count = self.reduction, 0.0, 0
        for box in boxes:
            part = self.errors[box.top // r : -(-box.bottom // r), box.left // r : -(-box.right // r)]
            total, count = total + float(part.sum()), count + part.size
        return max(total / max(1, count), _LEAST_ERROR)


class Budget:
    """What squares may take: each its share of what those before it left."""

    def __init__(
        self,
        recipe: Recipe,
        groups: tuple[Group, ...],
        num_gaussians: int,
        counted: bool,  # whether they were asked for
        payload: float | None,  # bytes of the whole file but for its head; None: there is no limit
    ) -> None:
        self._recipe, self._groups, self._given, self._counted = recipe, groups, num_gaussians, counted
        self.left = num_gaussians
        self.bytes = payload
        self._head = rate.head_bytes(recipe, groups, {})  # that no file of a square will have

    def bytes_for(self, share: float) -> float | None:
        """The size of a file of a share of what is left; None: there is no limit."""
        return None if self.bytes is None else self.bytes * share + self._head

    def gaussians_for(self, share: float, left: float) -> int:
        """How many Gaussians a share of what is left begins with. left: the share of the picture that is still to come.

        A quality buys each square what it buys, whatever the others took.
        """
        size = self.bytes_for(share)
        if size is not None:
            n = rate.gaussians_for_bytes(size, self._recipe, self._groups, {})
        else:
            n = round(share * (self.left if self._counted else self._given * left))
        return max(rate.SMALLEST, n)

    def spend(self, within: float | None, size: float, kept: int, count: int) -> None:
        """Take off what a square keeps, ``kept`` of ``count`` Gaussians. size: of a file of all, as coarse as its fit.

        What is above the limit all squares have alike: in the end the coarseness of all takes it off.
        """
        self.left -= kept
        if self.bytes is not None and within is not None:
            self.bytes -= (min(within, size) - self._head) * kept / count
