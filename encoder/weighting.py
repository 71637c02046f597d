"""Weights of channel groups in the loss, by fitting channels that are scaled: e² of a scaled channel is gain²·e².

The fit, its losses and the lattice's noise then need to know nothing of weights. Gains are whole eighths of an octave,
so that a lattice of the scaled channels is one of the stored values with other step codes (spec §3.2).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from igs.encoder.raster.model import Model
from igs.encoder.recipe import Recipe
from igs.format import Group
from igs.format.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Gains:
    """finer: per feature, eighths of an octave by which the fit sees it larger than it is stored; none: as it is."""

    finer: tuple[int, ...] = ()

    @staticmethod
    def of(groups: Sequence[Group], weights: Sequence[float], recipe: Recipe) -> Gains:
        """The gains for weights of the groups' squared errors. Their mean over the channels is made 1.

        Raises UsageError for recipes that can't be weighted: with slopes, which all channels share, or learned codes.
        """
        if len(set(weights)) <= 1:
            return Gains()
        if recipe.primitive != "constant":
            raise UsageError(f"weights: expected primitive constant, found {recipe.primitive}")
        if recipe.coding == "plain" and recipe.feat_quantizer != "uniform":
            raise UsageError(f"weights: expected feat_quantizer uniform, found {recipe.feat_quantizer}")
        channels = [w for group, w in zip(groups, weights, strict=True) for _ in range(group.channels)]
        mean = sum(channels) / len(channels)
        return Gains(tuple(round(4 * math.log2(w / mean)) for w in channels))

    def factors(self) -> Tensor:
        """Gain of each channel [C]."""
        return torch.exp2(torch.tensor(self.finer, dtype=torch.float64, device="cpu") / 8).float()

    def weighted(self, picture: Tensor) -> Tensor:
        """Stored values [C, H, W] as the fit sees them."""
        return picture * self.factors()[:, None, None] if self.finer else picture

    def unweighted(self, model: Model) -> Model:
        """A fitted model with the features that the file shall store."""
        if not self.finer:
            return model
        return Model(model.position, model.scale, model.rotation, model.feature / self.factors(), model.scale_map)
