"""Rounding a Gaussian's attributes one after the other, each error made up for by the attributes still to come.

What one attribute's rounding does to the picture another can partly undo: a long Gaussian seen only on one side may
move or shrink to nearly the same effect. The blocks of the Gauss–Newton matrix (sensitivity.py) say how; the order is
the lattice's, which has to know sizes before angles and both before places. The idea is Babai's for the closest lattice
point, known for networks' weights as optimal brain quantisation (Hassibi & Stork 1993; Frantar et al. 2022). What is
nearest for one attribute may leave more to those after it: so the cheapest few ways are followed side by side, as
decoders of codes over lattices do (the M-algorithm, Anderson & Mohan 1984).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from igs.encoder.raster.model import Model
from igs.encoder.rounding.sensitivity import ANGLE, MAJOR, MINOR, SLOPES, Costs, X, Y, numbers
from igs.format import lattice as la
from igs.format.lattice import Lattice

F64 = NDArray[np.float64]
# Ways of rounding a Gaussian that are followed. Of 1, 2, 8 and 32 the error of rounding kodim07 once, as the matrices
# have it, is to 88, 79, 75 and 75.
WAYS = 4
# Steps that an attribute may move to make up for others. What hardly shows could move without end, until it does show:
# without a bound some Gaussians of kodim07 went hundreds of pixels, and one seed in four lost 0.17 dB more than others.
_MOST = 2.0
# Luma makes up for what rounding does to the differences of chroma, which are coarser: it comes last.
_LUMA_LAST = (1, 2, 0)


class _Ways:
    """Ways of rounding Gaussians, a few of each: what is fixed, and what the rest had best be then."""

    def __init__(self, costs: Costs, start: F64, columns: int) -> None:
        self.costs, self.start = costs, start  # [N, G]
        self.who = np.arange(len(start))  # whose way each is, [M]
        self.cost = np.zeros(len(start))  # of what is fixed, [M]
        self.x = start.copy()  # a form's numbers, [M, G]
        self.slopes = list(range(SLOPES, start.shape[1]))  # columns of x
        self.table = np.zeros((len(start), columns))  # codes, [M, 5 + F]

    def fork(self, exact: F64, least: float = -math.inf) -> F64:
        """Each way twice: with the whole number nearest to ``exact`` [M] and with the next nearest one; those [2·M]."""
        near = np.floor(exact + 0.5)
        beside = np.where(exact >= near, near + 1, near - 1)
        self._take(np.tile(np.arange(len(exact)), 2))
        return np.maximum(np.concatenate([near, beside]), least)

    def bound(self, column: int, most: F64) -> None:
        """Let a number be no further than ``most`` [M] from where it was."""
        start = self.start[self.who, column]
        self.x[:, column] = np.clip(self.x[:, column], start - most, start + most)

    def fix(self, column: int, value: F64, rest: list[int]) -> None:
        """Fix a number at ``value`` [M], move the rest to make up for it, and keep the cheapest ways."""
        matrix = self.costs.matrix
        error = value - self.x[:, column]
        if column == ANGLE:
            error -= np.round(error)
        price = matrix[:, column, column]
        if rest:
            across = matrix[:, rest, column]
            follow = np.linalg.solve(matrix[:, rest][:, :, rest], across[:, :, None])[:, :, 0]
            price = np.maximum(price - (across * follow).sum(axis=1), 0.0)
            self.x[:, rest] -= follow[self.who] * error[:, None]
        self.x[:, column] = value
        self.cost = self.cost + price[self.who] * error**2
        self.keep(WAYS)

    def keep(self, most: int) -> None:
        """Keep the cheapest ways of each Gaussian, in the order of the Gaussians."""
        order = np.lexsort((self.cost, self.who))
        first = np.searchsorted(self.who[order], np.arange(len(self.start)))
        self._take(order[np.arange(len(order)) - first[self.who[order]] < most])

    def _take(self, rows: NDArray[np.intp]) -> None:
        self.who, self.cost = self.who[rows], self.cost[rows]
        self.x, self.table = self.x[rows], self.table[rows]


def sorted_axes(model: Model) -> Model:
    """The same Gaussians with the larger deviation first."""
    swap = model.scale[:, 1] > model.scale[:, 0]
    if model.scale_map == "inverse":
        swap = ~swap
    scale = torch.where(swap[:, None], model.scale.flip(1), model.scale)
    rotation = torch.where(swap, model.rotation + 0.5, model.rotation)
    return Model(model.position, scale.contiguous(), rotation.contiguous(), model.feature, model.scale_map)


def codes(
    model: Model, lattice: Lattice, rgb: list[int], costs: Costs | None, size: tuple[int, int]
) -> NDArray[np.uint32]:
    """Codes table uint32 [N, 5 + F] of a model with log scales, axes sorted. size: of the picture, (width, height).

    costs: of the model's Gaussians; None rounds each attribute to its nearest code.
    """
    if costs is None:
        arrays = (a.double().numpy() for a in (model.position, model.sigmas(), model.rotation, model.feature))
        position, sigma, turn, feature = arrays
        return la.encode(lattice, position, sigma, turn, feature, rgb, size)
    channels = costs.response.shape[1]
    start, values = (part.double().numpy() for part in numbers(model.tensors(), channels))
    ways = _Ways(costs, start, 5 + model.feature.shape[1])
    _fix_sizes(ways, lattice)
    _fix_angle(ways, lattice)
    _fix_place(ways, lattice, size)
    _fix_features(ways, lattice, rgb, values)
    ways.keep(1)
    signed = [0, 1, *range(5, ways.table.shape[1])]
    table = np.zeros(ways.table.shape, np.uint32)
    table[:, 2:5] = ways.table[:, 2:5]
    table[:, signed] = np.clip(ways.table[:, signed], -(2**30), 2**30).astype(np.int32).view(np.uint32)
    return table


def _fix_sizes(ways: _Ways, lattice: Lattice) -> None:
    def root() -> F64:
        return np.minimum(la.ROOT_MIN + ways.table[:, 2] * pitch, la.ROOT_MAX)

    pitch = la.step_value(lattice.minor)
    exact = np.clip(np.exp(ways.x[:, MINOR] / 2), la.ROOT_MIN, la.ROOT_MAX)
    ways.table[:, 2] = ways.fork((exact - la.ROOT_MIN) / pitch, 0.0)
    ways.fix(MINOR, 2 * np.log(root()), [MAJOR, ANGLE, X, Y, *ways.slopes])
    step = la.step_value(lattice.ratio) / root()  # octaves
    ways.bound(MAJOR, _MOST * step * math.log(2))
    octaves = np.clip((ways.x[:, MAJOR] - ways.x[:, MINOR]) / math.log(2), 0.0, la.RATIO_MAX)
    ways.table[:, 3] = ways.fork(octaves / step, 0.0)
    log1 = la.sizes(lattice, ways.table[:, 2], ways.table[:, 3])[2]
    ways.fix(MAJOR, log1 * math.log(2), [ANGLE, X, Y, *ways.slopes])


def _fix_angle(ways: _Ways, lattice: Lattice) -> None:
    sigma1, sigma2, _, _, gain, _ = la.sizes(lattice, ways.table[:, 2], ways.table[:, 3])
    n = la.angle_count(lattice, sigma1, sigma2, gain)
    ways.bound(ANGLE, _MOST / n)
    turn = ways.x[:, ANGLE] - np.floor(ways.x[:, ANGLE])
    number = ways.fork(turn * n - 0.5)
    n = np.tile(n, 2)
    ways.table[:, 4] = np.mod(number, n)
    ways.fix(ANGLE, (ways.table[:, 4] + 0.5) / n, [X, Y, *ways.slopes])


def _fix_place(ways: _Ways, lattice: Lattice, size: tuple[int, int]) -> None:
    def pitches() -> tuple[F64, F64, F64]:
        """(sy, sx, q/p) of spec §6.4."""
        part = la.shapes(lattice, ways.table)
        p, q, r, *_ = la.factor(part.sigma1, part.sigma2, part.turn)
        return part.step / r, part.step / p, q / p

    sy, *_ = pitches()
    ways.bound(Y, _MOST * sy)
    ways.table[:, 1] = ways.fork(ways.x[:, Y] / sy)
    ways.fix(Y, ways.table[:, 1] * np.tile(sy, 2), [X, *ways.slopes])
    sy, sx, lean = pitches()
    ways.bound(X, _MOST * (sx + np.abs(lean) * sy))
    i = ways.fork((ways.x[:, X] + lean * ways.x[:, Y]) / sx)
    sy, sx, lean = pitches()
    i, j = la.in_room(i, ways.table[:, 1], sx, sy, lean, size)
    ways.table[:, 0], ways.table[:, 1] = i, j
    ways.x[:, Y] = j * sy
    ways.fix(X, i * sx - lean * ways.x[:, Y], ways.slopes)


def _fix_features(ways: _Ways, lattice: Lattice, rgb: list[int], values: F64) -> None:
    """Slopes, and the values, [N, C] before, as all that was fixed wants them.

    Slopes are rounded to what is nearest, and the values don't make up for it: what is known of both together is too
    little. Four pictures of Kodak had 29.93 dB where they did, 30.03 where not (0.2 bpp, effort 3).
    """
    channels = values.shape[1]
    gain = la.sizes(lattice, ways.table[:, 2], ways.table[:, 3])[5]
    for k in ways.slopes:
        feature = channels + k - SLOPES
        step = la.step_value(lattice.feature[feature]) * gain
        ways.bound(k, _MOST * step)
        ways.table[:, 5 + feature] = np.floor(ways.x[:, k] / step + 0.5)
    change = ways.x - ways.start[ways.who]
    change[:, ANGLE] -= np.round(change[:, ANGLE])
    followed = values[ways.who] + np.einsum("mcg,mg->mc", ways.costs.response[ways.who], change)
    before = values[ways.who]
    steps = np.array([la.step_value(code) for code in lattice.feature[:channels]]) * gain[:, None]
    mixed = lattice.ycbcr
    if mixed:
        followed, before = la.decorrelate(followed, rgb), la.decorrelate(before, rgb)
    followed = np.clip(followed, before - _MOST * steps, before + _MOST * steps)
    wanted = followed.copy()
    to_rgb = la.correlate(np.eye(3), [0])
    square = to_rgb @ to_rgb.T  # of an error of luma and chroma, what it is in RGB
    for c in rgb if mixed else []:
        for at, k in enumerate(_LUMA_LAST):
            rest = list(_LUMA_LAST[at + 1 :])
            error = np.floor(wanted[:, c + k] / steps[:, c + k] + 0.5) * steps[:, c + k] - wanted[:, c + k]
            if rest:
                follow = np.linalg.solve(square[np.ix_(rest, rest)], square[rest, k])
                wanted[:, [c + other for other in rest]] -= error[:, None] * follow
    whole = np.floor(wanted / steps + 0.5)
    ways.table[:, 5 : 5 + channels] = whole
    error = whole * steps - followed
    if mixed:
        error = la.correlate(error, rgb)
    ways.cost = ways.cost + ways.costs.value[ways.who] * np.square(error).sum(axis=1)


def decoded(codes: NDArray[np.uint32], lattice: Lattice, rgb: list[int]) -> Model:
    """The model, with log scales, that a codes table stands for."""
    part = la.shapes(lattice, codes)
    parts = la.factor(part.sigma1, part.sigma2, part.turn)
    arrays = (
        la.mean_positions(codes, part.step, *parts[:3]),
        np.log(np.stack([part.sigma1, part.sigma2], axis=1)),
        part.turn,
        la.feature_values(lattice, codes, part.gain, rgb),
    )
    return Model.of((torch.from_numpy(np.ascontiguousarray(a)).float() for a in arrays), "log")
