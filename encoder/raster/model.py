"""The Gaussians of a fit as four tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from igs.encoder.raster import shapes


@dataclasses.dataclass
class Model:
    """The Gaussians of a fit. ``scale_map`` says what ``scale`` and ``rotation`` hold, see shapes.py."""

    position: Tensor  # [N, 2] pixels
    scale: Tensor  # [N, 2]
    rotation: Tensor  # [N] half-turns, or the entry beside the diagonal
    feature: Tensor  # [N, F] stored values: C colours, then a and b where the Gaussians carry a gradient
    scale_map: str

    NAMES = ("position", "scale", "rotation", "feature")

    def __len__(self) -> int:
        return self.position.shape[0]

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.position, self.scale, self.rotation, self.feature

    @staticmethod
    def of(tensors: Iterable[Tensor], scale_map: str) -> Model:
        """The model of four tensors in the order of ``NAMES``."""
        position, scale, rotation, feature = tensors
        return Model(position, scale, rotation, feature, scale_map)

    def map(self, change: Callable[[Tensor], Tensor]) -> Model:
        """A model with ``change`` applied to each of the four tensors."""
        return Model.of(map(change, self.tensors()), self.scale_map)

    def rows(self, rows: Tensor) -> Model:
        """Some of the Gaussians: by their rows [n], or by which they are [N]."""
        return self.map(lambda t: t[rows])

    @staticmethod
    def joined(models: Sequence[Model]) -> Model:
        """The Gaussians of several models, at least one, one after the other."""
        return Model.of(map(torch.cat, zip(*(m.tensors() for m in models), strict=True)), models[0].scale_map)

    def clone(self) -> Model:
        return self.map(torch.clone)

    def sigmas(self) -> Tensor:
        """Standard deviations [N, 2] in pixels, clamped as the format does."""
        return shapes.deviations(self.scale, self.rotation, self.scale_map)

    def is_finite(self) -> bool:
        return bool(torch.stack([torch.isfinite(t).all() for t in self.tensors()]).all())  # one look at the device


def scale_parameter(sigma: Tensor, scale_map: str) -> Tensor:
    """``Model.scale`` of deviations [N, 2] along the axes of the picture."""
    return shapes.parameters(sigma, sigma.new_zeros(len(sigma)), scale_map)[0]
