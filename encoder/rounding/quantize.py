"""The fit's parameters as the format's codes: which quantiser each attribute gets, and rounding in the forward pass.

Scales are stored as log2 σ (spec §6.2), rotations as half-turns that wrap. Spec §6.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igs.encoder.raster.model import Model, scale_parameter
from igs.encoder.raster.shapes import is_matrix
from igs.encoder.recipe import Recipe
from igs.format import Quantizer

Values = NDArray[np.float64]


def attributes(model: Model) -> tuple[Values, Values, Values, Values]:
    """Position [N, 2] pixels, log2 σ [N, 2], rotation [N, 1] half-turns in [0, 1), feature [N, F], in float64.

    Of matrices their entries in place of log2 σ and rotation.
    """
    if is_matrix(model.scale_map):
        position, scale, entry, feature = (t.double().numpy() for t in model.tensors())
        return position, scale, entry[:, None], feature
    sigma = model.sigmas().double().numpy()
    rotation = model.rotation.double().numpy()[:, None]
    return (
        model.position.double().numpy(),
        np.log2(sigma),
        rotation - np.floor(rotation),
        model.feature.double().numpy(),
    )


def _range(values: Values, axis: int | None) -> tuple[Values, Values]:
    """Bounds as binary32, outward, so that every value lies between them."""
    lo, hi = np.atleast_1d(values.min(axis=axis)), np.atleast_1d(values.max(axis=axis))
    lo32, hi32 = lo.astype(np.float32), hi.astype(np.float32)
    lo32 = np.where(lo32 > lo, np.nextafter(lo32, np.float32(-np.inf)), lo32)
    hi32 = np.where(hi32 < hi, np.nextafter(hi32, np.float32(np.inf)), hi32)
    return lo32.astype(np.float64), hi32.astype(np.float64)


def choose_quantizers(
    values: tuple[Values, Values, Values, Values], recipe: Recipe
) -> tuple[Quantizer, Quantizer, Quantizer, Quantizer]:
    """Uniform quantisers over the values' range at the recipe's bit widths; 32 bits store float32.

    Position and matrix entries have a range per column, scale and feature one for all (fewer bytes), rotation the whole
    circle. Colours and gradients have a range each.
    """
    position, scale, rotation, feature = values

    def apart(v: Values, bits: int) -> Quantizer:
        return Quantizer.float32(v.shape[1]) if bits == 32 else Quantizer.uniform(*_range(v, 0), bits)

    def shared(v: Values, bits: int) -> Quantizer:
        if bits == 32:
            return Quantizer.float32(v.shape[1])
        lo, hi = _range(v, None)
        return Quantizer.uniform(np.repeat(lo, v.shape[1]), np.repeat(hi, v.shape[1]), bits, shared=True)

    pos = apart(position, recipe.pos_bits)
    if recipe.shape != "scale_rotation":
        return pos, apart(scale, recipe.scale_bits), apart(rotation, recipe.rot_bits), shared(feature, recipe.feat_bits)
    if recipe.rot_bits == 32:
        rot = Quantizer.float32(1)
    else:  # code 2^bits would be code 0 again: the last code is one step short of a half-turn
        count = 2**recipe.rot_bits
        rot = Quantizer.uniform(
            np.zeros(1), np.array([(count - 1) / count], np.float32).astype(np.float64), recipe.rot_bits
        )
    if recipe.primitive == "gradient" and recipe.feat_bits < 32:
        ranges = [np.repeat(_range(part, None), part.shape[1], axis=1) for part in (feature[:, :-2], feature[:, -2:])]
        lo, hi = np.concatenate(ranges, axis=1)
        feat = Quantizer.uniform(lo, hi, recipe.feat_bits)
    else:
        feat = shared(feature, recipe.feat_bits)
    return pos, shared(scale, recipe.scale_bits), rot, feat


def straight_through(model: Model, recipe: Recipe) -> Model:
    """The model as it would be after rounding; gradients taken there go to the unrounded one (Image-GS 3.4)."""

    def rounded(t: Tensor, bits: int, lo: Tensor, hi: Tensor) -> Tensor:
        if bits == 32:
            return t
        step = ((hi - lo) / (2**bits - 1)).clamp_min(1e-12)
        return lo + torch.round((t - lo) / step) * step

    position = rounded(model.position, recipe.pos_bits, model.position.amin(0), model.position.amax(0))
    log2 = model.sigmas().log2()
    sigma = torch.exp2(rounded(log2, recipe.scale_bits, log2.min(), log2.max()))
    rotation = model.rotation
    if recipe.rot_bits < 32:
        rotation = torch.round(rotation * 2**recipe.rot_bits) / 2**recipe.rot_bits
    colours = model.feature.shape[1] - 2 * (recipe.primitive == "gradient")
    parts = [p for p in (model.feature[:, :colours], model.feature[:, colours:]) if p.shape[1]]
    feature = torch.cat([rounded(p, recipe.feat_bits, p.min(), p.max()) for p in parts], dim=1)
    return Model(position, scale_parameter(sigma, model.scale_map), rotation, feature, model.scale_map)
