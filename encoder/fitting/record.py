"""Watching a fit: snapshots of its picture and its Gaussians as it goes, for films and reports.

A :class:`Recorder` is handed to ``EncodeOptions.on_step``. A fit without one pays nothing; with one it pays for a
rendering per snapshot. What is kept is small: pictures are reduced, of very many Gaussians a part is taken.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from igs.decoder.measure import psnr_of
from igs.encoder.raster import shapes

if TYPE_CHECKING:
    from igs.encoder.fitting.fit import Fit
    from igs.encoder.raster.model import Model

SIDE = 720  # pixels: the longer side of a kept picture, at most
MOST = 20_000  # Gaussians that a snapshot keeps


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A fit at one moment.

    values: uint8 [h, w, C], stored values (premultiplied, gamma undone) of [0, 1], the picture reduced by whole means.
    position [n, 2] pixels, covariance [n, 3] (Σxx, Σxy, Σyy) pixels², feature [n, C] stored values: float32, of all
    Gaussians or an even part of them. new: bool [n], those that have just joined; at the start none is. added: how many
    joined. psnr: dB of the step before, before quantisation, None at the start.
    """

    step: int
    growth: bool  # Gaussians have just joined, or this is the first one
    num_gaussians: int
    added: int
    psnr: float | None
    values: NDArray[np.uint8]
    position: NDArray[np.float32]
    covariance: NDArray[np.float32]
    feature: NDArray[np.float32]
    new: NDArray[np.bool_]


class Recorder:
    """Takes snapshots at the start, one step after each growth, at the end, and ``frames`` times in between.

    Frames come thick at the start, where most happens: frame k of n at the share (k/n)² of the recipe's steps, and so
    on for a fit that goes beyond these (a PSNR target).
    """

    def __init__(self, frames: int = 0, side: int = SIDE) -> None:
        self.frames, self.side = frames, side
        self.snapshots: list[Snapshot] = []
        self._count = 0  # Gaussians at the last call
        self._frame = 0

    def __call__(self, fit: Fit) -> None:
        """``EncodeOptions.on_step``: called before every step, and after the last."""
        n, step, end = len(fit.state.model), fit.state.step, fit.recipe.steps
        first = not self.snapshots
        growth = first or n > self._count
        due = self.frames > 0 and step >= self._due(end)
        if growth or due or (step == end and step != self.snapshots[-1].step):
            self.snapshots.append(self._take(fit, growth, 0 if first else self._count))
            while self.frames > 0 and self._due(end) <= step:
                self._frame += 1
        self._count = n

    def _due(self, steps: int) -> float:
        return steps * (self._frame / self.frames) ** 2

    def _take(self, fit: Fit, growth: bool, before: int) -> Snapshot:
        model, n = fit.state.model, len(fit.state.model)
        image = fit.backend.render(model, fit.options)
        times = math.ceil(max(image.shape[1:]) / self.side)
        if times > 1:
            image = torch.nn.functional.avg_pool2d(image[None], times, ceil_mode=True, count_include_pad=False)[0]
        values = (image.clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8).permute(1, 2, 0)
        rows = np.arange(n) if n <= MOST else np.linspace(0, n - 1, MOST).astype(np.intp)
        picked = model.map(lambda t: t[torch.from_numpy(rows).to(t.device)])
        return Snapshot(
            fit.state.step,
            growth,
            n,
            n - before if growth else 0,
            psnr_of(fit.last.mse) if fit.state.step else None,
            _numpy(values),
            _numpy(picked.position),
            covariances(picked, fit.options.lowpass),
            _numpy(picked.feature[:, : fit.channels]),
            (rows >= before) & growth & (before > 0),
        )


def covariances(model: Model, lowpass: float) -> NDArray[np.float32]:
    """Σxx, Σxy, Σyy [n, 3] in pixels² of a model's Gaussians, the filter included."""
    if shapes.is_matrix(model.scale_map):
        sxx, syy, sxy = shapes.covariance_entries(model.scale, model.rotation, model.scale_map)
    else:
        a, b = (model.sigmas() ** 2).unbind(1)
        c, s = torch.cos(math.pi * model.rotation), torch.sin(math.pi * model.rotation)
        sxx, sxy, syy = a * c * c + b * s * s, (a - b) * s * c, a * s * s + b * c * c
    return _numpy(torch.stack([sxx + lowpass, sxy, syy + lowpass], dim=1))


def _numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """A copy that the fit won't change."""
    return tensor.detach().cpu().numpy().copy()
