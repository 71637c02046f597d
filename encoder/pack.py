"""A fitted model as a file: quantise, close holes, write, decode again and measure.

Between the fit, which knows no bytes, and the format, which knows no pictures.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from igs.decoder import holes
from igs.encoder.backend import Model, scale_parameter
from igs.encoder.options import Recipe
from igs.encoder.quantize import attributes, choose_quantizers
from igs.format import Blend, Codec, Gaussians, Group, Header, ScaleMap, dequantize, quantize, write

# A Gaussian that must reach a point gets a little more than it needs: quantising may take some of it back.
_HOLE_MARGIN = 0.85
_HOLE_ROUNDS = 12
# Readers refuse files whose Gaussians together reach over more than 4096 times the picture (spec §12, reach_ratio).
_REACH_RATIO = 2000


@dataclasses.dataclass(frozen=True)
class Packed:
    """A quantised model. ``codes`` is the codes table of spec §5."""

    header: Header
    codes: np.ndarray  # uint32 [N, columns]
    gaussians: Gaussians


def quantize_model(
    model: Model, recipe: Recipe, width: int, height: int, groups: tuple[Group, ...], background: tuple[float, ...]
) -> Packed:
    """Codes of a model, with every point of a 4×4 grid per pixel reached by some Gaussian (``topk``).

    Where rounding (or the fit) left a point bare, the nearest Gaussian grows until it reaches it.
    """
    model = model.clone()
    _bound_reach(model, recipe.reach2, width * height)
    for _ in range(_HOLE_ROUNDS):
        values = attributes(model)
        position, scale, rotation, feature = choose_quantizers(values, recipe)
        header = Header(
            width=width,
            height=height,
            channels=feature.columns,
            groups=groups,
            background=background,
            position=position,
            scale=scale,
            rotation=rotation,
            feature=feature,
            blend=Blend.TOPK if recipe.blend == "topk" else Blend.SUM,
            top_k=recipe.top_k if recipe.blend == "topk" else 0,
            scale_map=ScaleMap.LOG2,
            reach2=recipe.reach2,
            relative_reach2=recipe.relative_reach2 if recipe.blend == "topk" else float("inf"),
        )
        codes = quantize(header, *values)
        gaussians = dequantize(header, codes)
        if recipe.blend != "topk":
            break
        points = holes(header, gaussians, 4)
        if len(points) == 0:
            break
        _reach(model, gaussians, points, recipe.reach2)
    return Packed(header, codes, gaussians)


def _bound_reach(model: Model, reach2: float, pixels: int) -> None:
    """Shrink Gaussians that reach too far together: only ever met on tiny or flat pictures."""
    sigma = model.sigmas().double()
    area = math.pi * reach2 * sigma[:, 0] * sigma[:, 1]
    most = _REACH_RATIO * (pixels + 4096)
    if float(area.sum()) <= most:
        return
    factor = (most / len(model) / area).clamp_max(1).sqrt()
    model.scale.copy_(scale_parameter((sigma * factor[:, None]).float(), model.scale_map))


def _reach(model: Model, gaussians: Gaussians, points: np.ndarray, reach2: float) -> None:
    """Enlarge the nearest Gaussian of each point until it reaches it."""
    means = gaussians.means.astype(np.float64) * 2.0**-14
    p, q, r = (gaussians.factors.astype(np.float64) * 2.0**14).T
    factor = np.ones(len(means))
    block = max(1, 4_000_000 // len(means))
    for start in range(0, len(points), block):
        delta = points[start : start + block, None, :] - means[None]
        d2 = (p * delta[..., 0] + q * delta[..., 1]) ** 2 + (r * delta[..., 1]) ** 2
        nearest = d2.argmin(axis=1)
        need = np.sqrt(d2[np.arange(len(nearest)), nearest] / (_HOLE_MARGIN * reach2))
        np.maximum.at(factor, nearest, need)
    # What was decoded may already differ from the model: grow from the decoded deviations.
    grown = torch.from_numpy(gaussians.scales * factor[:, None]).float()
    chosen = torch.from_numpy(factor > 1)
    model.scale[chosen] = scale_parameter(grown, model.scale_map)[chosen]


def to_bytes(packed: Packed, codec: str, chunk_size: int | None, sections: dict[str, bytes]) -> bytes:
    """The file."""
    return write(
        packed.header,
        [packed.codes],
        codec=Codec.RAW if codec == "raw" else Codec.ZSTD,
        chunk_size=chunk_size,
        sections=sections,
    )
