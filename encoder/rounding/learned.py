"""A model as its file will hold it, while it is fitted: one learned quantiser per attribute (quantisation-aware phase).

Values are rounded in the units of the file (spec §6: log2 σ, half-turns, pixels), gradients taken at the rounded model
go back to the unrounded one. For ``uniform`` quantisers: :func:`igs.encoder.rounding.quantize.straight_through`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from igs.encoder.raster.model import Model
from igs.encoder.raster.shapes import is_matrix
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.codebook import ResidualCodebook
from igs.encoder.rounding.lsq import HalfFloat, LearnedStep
from igs.format import Quantizer

Quantizers = tuple[Quantizer, Quantizer, Quantizer, Quantizer]
_LN2 = math.log(2)


class Rule(Protocol):
    """How one attribute is rounded and what it learns from it."""

    def round(self, values: Tensor) -> Tensor: ...
    def learn(self, values: Tensor, grad: Tensor, factor: float = 1.0) -> Tensor: ...
    def update(self, values: Tensor) -> None: ...
    def quantizer(self) -> Quantizer: ...

    @property
    def STATE(self) -> tuple[str, ...]: ...  # the tensors that a checkpoint keeps


class _Range:
    """Uniform over the range of the values as it is at each step (nothing is learned)."""

    STATE = ("_low", "_high")

    def __init__(self, values: Tensor, bits: int, shared: bool) -> None:
        self.bits, self.shared = bits, shared
        self.update(values)

    def update(self, values: Tensor) -> None:
        v = values.double().reshape(-1, 1) if self.shared else values.double()
        low, high = v.amin(0).float().double(), v.amax(0).float().double()
        self._low, self._high = low.expand(values.shape[1]), torch.maximum(high, low).expand(values.shape[1])

    def round(self, values: Tensor) -> Tensor:
        if self.bits == 32:
            return values
        step = ((self._high - self._low) / (2**self.bits - 1)).clamp_min(1e-12)
        code = ((values.double() - self._low) / step).round().clamp(0, 2**self.bits - 1)
        return (self._low + code * step).to(values.dtype)

    def learn(self, values: Tensor, grad: Tensor, factor: float = 1.0) -> Tensor:
        return grad

    def quantizer(self) -> Quantizer:
        return Quantizer.uniform(
            self._low.cpu().numpy(), self._high.cpu().numpy(), self.bits, shared=self.shared and self.bits < 32
        )


def is_learned(recipe: Recipe) -> bool:
    """Whether a recipe's quantisers are made here: one of them learns, or the shapes are matrices."""
    kinds = {recipe.pos_quantizer, recipe.shape_quantizer, recipe.feat_quantizer}
    return kinds != {"uniform"} or is_matrix(recipe.scale_map)


class Rounding:
    """The quantisers of one model, and what they learn."""

    def __init__(self, model: Model, recipe: Recipe, seed: int = 0) -> None:
        r = self.recipe = recipe
        position, scale, rotation, feature = self._values(model)

        def rule(kind: str, values: Tensor, bits: int, shared: bool) -> Rule:
            if kind == "learned":
                return LearnedStep(values, bits, r.lr_quantizer)
            if kind == "float16":
                return HalfFloat(values)
            if kind == "codebook":
                return ResidualCodebook(values, bits, r.feat_stages, r.codebook_commit, seed)
            return _Range(values, bits, shared)

        # As without learning, uniform codes of deviations and colours share one range, those of entries do not.
        self.rules = (
            rule(r.pos_quantizer, position, r.pos_bits, False),
            rule(r.shape_quantizer, scale, r.scale_bits, not is_matrix(model.scale_map)),
            rule(r.shape_quantizer, rotation, r.rot_bits, False),
            rule(r.feat_quantizer, feature, r.feat_bits, r.primitive == "constant"),
        )

    @staticmethod
    def _values(model: Model) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The attributes in the units of the file."""
        if is_matrix(model.scale_map):
            scale, rotation = model.scale, model.rotation
        else:
            scale = model.scale / _LN2 if model.scale_map == "log" else model.sigmas().log2()
            rotation = model.rotation - model.rotation.floor()
        return model.position, scale, rotation[:, None], model.feature

    def round(self, model: Model) -> Model:
        """The model that the file's codes stand for."""
        position, scale, rotation, feature = (
            rule.round(v) for rule, v in zip(self.rules, self._values(model), strict=True)
        )
        if not is_matrix(model.scale_map):
            scale = scale * _LN2
            if model.scale_map != "log":
                scale = scale.exp() if model.scale_map == "raw" else (-scale).exp()
        return Model.of((position, scale, rotation[:, 0], feature), model.scale_map)

    def learn(
        self, model: Model, seen: Model, grads: tuple[Tensor, ...], factor: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gradients of ``model``'s attributes from those at ``seen``, its rounded self; the quantisers take a step.

        ``factor`` scales their learning rate, as the schedule does that of the rest.
        """
        slope, seen_slope = self._scale_slope(model), self._scale_slope(seen)
        by_file = [grads[0], grads[1] * seen_slope, grads[2][:, None], grads[3]]
        values = self._values(model)
        out = [rule.learn(v, g, factor) for rule, v, g in zip(self.rules, values, by_file, strict=True)]
        for rule, v in zip(self.rules, values, strict=True):
            rule.update(v)
        return out[0], out[1] / slope, out[2][:, 0], out[3]

    @staticmethod
    def _scale_slope(model: Model) -> Tensor | float:
        """d scale parameter / d file value."""
        if is_matrix(model.scale_map):
            return 1.0
        if model.scale_map == "log":
            return _LN2
        return (_LN2 if model.scale_map == "raw" else -_LN2) * model.scale

    def state(self) -> dict[str, Tensor]:
        """What :meth:`load` needs to go on, by name."""
        return {f"{i}{name}": getattr(rule, name) for i, rule in enumerate(self.rules) for name in rule.STATE}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`state`."""
        for i, rule in enumerate(self.rules):
            for name in rule.STATE:
                setattr(rule, name, state[f"{i}{name}"].clone())

    def quantizers(self) -> Quantizers:
        """As a file holds them."""
        position, scale, rotation, feature = (rule.quantizer() for rule in self.rules)
        return position, scale, rotation, feature
