"""Rounding a Gaussian's attributes one after the other, each error made up for by the attributes still to come.

What one attribute's rounding does to the picture another can partly undo: a long Gaussian seen only on one side may
move or shrink to nearly the same effect. The blocks of the Gauss–Newton matrix say how; the order is the lattice's,
which has to know sizes before angles and both before places. The idea is Babai's for the closest lattice point, known
for networks' weights as optimal brain quantisation (Hassibi & Stork 1993; Frantar et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igs.encoder.raster.model import Model
from igs.format import lattice as la
from igs.format.lattice import Lattice

F64 = NDArray[np.float64]
PROBES = 64  # random pictures whose gradients estimate the matrices
_RIDGE = 0.02  # of the diagonal: the matrices are estimates
# Steps that an attribute may move to make up for others. What hardly shows could move without end, until it does show:
# without a bound some Gaussians of kodim07 went hundreds of pixels, and one seed in four lost 0.17 dB more than others.
_MOST = 2.0
_MAJOR, _MINOR, _ANGLE, _X, _Y, _SLOPES = range(6)


class Costs(NamedTuple):
    """What a change of a Gaussian's form costs when its values follow it, and how they do: see ``Sensitivities``."""

    matrix: F64  # [N, G, G]
    response: F64  # [N, C, G]

    def rows(self, which: NDArray[np.intp]) -> Costs:
        """Those of some Gaussians."""
        return Costs(self.matrix[which], self.response[which])


class Sensitivities(NamedTuple):
    """JᵀWJ of the picture's Jacobian, of each Gaussian by itself; without what is zero, as no channel shows in another.

    Its form are scales 1, 2, rotation, x, y, and the slopes of Gaussians that carry a gradient: G numbers.
    """

    form: F64  # [N, G, G]
    mixed: F64  # [N, G, C]: a number of the form and a channel's value
    value: F64  # [N]: a channel's value, the same for all

    def without_values(self) -> Costs:
        """What a change of the form costs when the values follow it.

        The mean over random signs is less sure of ``mixed`` the more channels there are: of as many as there were signs
        it would be all chance. That share is taken off.
        """
        known = max(0.0, 1 - self.mixed.shape[2] / PROBES)
        response = -known * self.mixed.transpose(0, 2, 1) / ((1 + _RIDGE) * self.value + 1e-9)[:, None, None]
        unit = np.sqrt(np.einsum("nii->ni", self.form) + 1e-9)
        unit = unit[:, :, None] * unit[:, None, :]
        size, direction = np.linalg.eigh((self.form + self.mixed @ response) / unit)
        size = np.maximum(size + _RIDGE, _RIDGE)  # of 1 % of a picture's Gaussians there are negative ones
        return Costs(np.einsum("nij,nj,nkj->nik", direction, size, direction) * unit, response)


def sorted_axes(model: Model) -> Model:
    """The same Gaussians with the larger deviation first."""
    swap = model.scale[:, 1] > model.scale[:, 0]
    if model.scale_map == "inverse":
        swap = ~swap
    scale = torch.where(swap[:, None], model.scale.flip(1), model.scale)
    rotation = torch.where(swap, model.rotation + 0.5, model.rotation)
    return Model(model.position, scale.contiguous(), rotation.contiguous(), model.feature, model.scale_map)


def sensitivities(
    pullback: Callable[[Tensor], tuple[Tensor, ...]], shape: tuple[int, ...], seed: int, probes: int = PROBES,
    place: torch.device | str = "cpu", weight: Tensor | None = None,
) -> Sensitivities:  # fmt: skip
    """How a picture of this shape, [C, H, W], changes with each Gaussian's attributes.

    pullback: Jᵀ of a picture [C, H, W], as Model.NAMES. weight: W of each pixel [H, W], none: 1.
    An average over random signs, times √W: its expectation is exact.
    """
    generator = torch.Generator(place).manual_seed(seed)
    root = 1.0 if weight is None else weight.sqrt()
    channels = shape[0]
    total: list[Tensor] = []
    for _ in range(probes):
        position, scale, rotation, feature = pullback(_signs(shape, generator) * root)
        g = torch.cat([scale, rotation[:, None], position, feature[:, channels:]], dim=1).double()
        values = feature[:, :channels].double()
        products = g[:, :, None] * g[:, None, :], g[:, :, None] * values[:, None, :], values.square().mean(1)
        total = [t.add_(p) for t, p in zip(total, products, strict=True)] if total else list(products)
    return Sensitivities(*((t / probes).cpu().numpy() for t in total))


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Random ±1 as float32, eight of each byte drawn: drawing is what takes the time."""
    count = math.prod(shape)
    place = generator.device
    drawn = torch.randint(0, 256, (-(-count // 8), 1), generator=generator, dtype=torch.uint8, device=place)
    bits = (drawn >> torch.arange(8, dtype=torch.uint8, device=place)) & 1
    return bits.flatten()[:count].reshape(shape).float().mul_(2).sub_(1)


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
    matrix, response = costs
    channels = response.shape[1]
    feature = model.feature.double().numpy()
    x = np.concatenate(
        [model.scale.numpy(), model.rotation.numpy()[:, None], model.position.numpy(), feature[:, channels:]], axis=1
    ).astype(np.float64)
    start = x.copy()
    slopes = list(range(_SLOPES, x.shape[1]))

    def bound(column: int, most: F64) -> F64:
        """A column, no further from where it was."""
        return np.clip(x[:, column], start[:, column] - most, start[:, column] + most)

    def settle(column: int, value: F64, rest: list[int]) -> None:
        """Fix a column at its rounded value and move the rest to make up for it."""
        error = value - x[:, column]
        if column == _ANGLE:
            error -= np.round(error)
        rest = rest + slopes
        if rest:
            shift = np.linalg.solve(matrix[:, rest][:, :, rest], (matrix[:, rest, column] * error[:, None])[:, :, None])
            x[:, rest] -= shift[:, :, 0]
        x[:, column] = value

    table = np.zeros((len(x), _SLOPES + feature.shape[1]), np.uint32)
    pitch = la.step_value(lattice.minor)
    root = np.clip(np.exp(x[:, _MINOR] / 2), la.ROOT_MIN, la.ROOT_MAX)
    table[:, 2] = np.floor((root - la.ROOT_MIN) / pitch + 0.5)
    root = np.minimum(la.ROOT_MIN + table[:, 2] * pitch, la.ROOT_MAX)
    settle(_MINOR, 2 * np.log(root), [_MAJOR, _ANGLE, _X, _Y])
    step = la.step_value(lattice.ratio) / root  # octaves
    x[:, _MAJOR] = bound(_MAJOR, _MOST * step * math.log(2))
    rho = np.clip((x[:, _MAJOR] - x[:, _MINOR]) / math.log(2), 0.0, la.RATIO_MAX)
    table[:, 3] = np.floor(rho / step + 0.5)
    sigma1, sigma2, log1, _, gain, feature_gain = la.sizes(lattice, table[:, 2], table[:, 3])
    settle(_MAJOR, log1 * math.log(2), [_ANGLE, _X, _Y])
    n = la.angle_count(lattice, sigma1, sigma2, gain)
    x[:, _ANGLE] = bound(_ANGLE, _MOST / n)
    turn = x[:, _ANGLE] - np.floor(x[:, _ANGLE])
    table[:, 4] = np.mod(np.floor(turn * n), n)
    settle(_ANGLE, (table[:, 4] + 0.5) / n, [_X, _Y])
    part = la.shapes(lattice, table)
    p, q, r, *_ = la.factor(part.sigma1, part.sigma2, part.turn)
    rows, points = part.step / r, part.step / p
    x[:, _Y] = bound(_Y, _MOST * rows)
    j = np.floor(x[:, _Y] / rows + 0.5)
    settle(_Y, j * rows, [_X])
    x[:, _X] = bound(_X, _MOST * (points + np.abs(q / p) * rows))
    i = np.floor((x[:, _X] + (q / p) * x[:, _Y]) / points + 0.5)
    i, j = la.in_room(i, j, points, rows, q / p, size)
    x[:, _Y] = j * rows
    settle(_X, i * points - (q / p) * x[:, _Y], [])
    change = x - start
    change[:, _ANGLE] -= np.round(change[:, _ANGLE])
    followed = feature[:, :channels] + np.einsum("ncg,ng->nc", response, change)
    moved = np.concatenate([followed, x[:, _SLOPES:]], axis=1)
    values, before = (la.decorrelate(a, rgb) if lattice.ycbcr else a for a in (moved, feature))
    steps = np.array([la.step_value(e) for e in lattice.feature]) * feature_gain[:, None]
    values = np.clip(values, before - _MOST * steps, before + _MOST * steps)
    signed = np.concatenate([i[:, None], j[:, None], np.floor(values / steps + 0.5)], axis=1)
    signed = np.clip(signed, -(2**30), 2**30).astype(np.int32).view(np.uint32)
    table[:, :2], table[:, 5:] = signed[:, :2], signed[:, 2:]
    return table


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
