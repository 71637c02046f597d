"""A fitted model as a file: quantise, close holes, write, decode again and measure.

Between the fit, which knows no bytes, and the format, which knows no pictures.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from igs.encoder import closing
from igs.encoder.fitting.learning_rates import FAR
from igs.encoder.raster.model import Model, scale_parameter
from igs.encoder.raster.shapes import enlarge, is_matrix, matrix_parameters
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.lattice import Steps
from igs.encoder.rounding.learned import Quantizers
from igs.encoder.rounding.quantize import Values, attributes, choose_quantizers
from igs.format import (
    Blend,
    Codec,
    Gaussians,
    Group,
    Header,
    Primitive,
    Quantizer,
    ScaleMap,
    Shape,
    chunk_rows,
    dequantize,
    quantize,
    write,
)
from igs.format.errors import UsageError
from igs.format.groups import rgb_groups
from igs.format.lattice_models import best_record

_SPARE = 0.02  # share of the Gaussians that may be moved to holes
_CLUSTER = 8.0  # pixels: bare points in one such cell are closed together
# Readers refuse files whose Gaussians together reach over more than 4096 times the picture (spec §12, reach_ratio).
_REACH_RATIO = 2000
# Codes of sizes and features up to which a lattice's models always have room (spec §5.3: 8191 and 16384 from a centre).
_LARGEST_CODE = 8190
_COARSER, _TRIALS = 1.5, 40


StoredAt = Callable[[NDArray[np.float64]], NDArray[np.float32]]  # the picture's stored values [n, C] at points [n, 2]
Chunks = list[list[NDArray[np.intp]]]  # of each level, the rows of its part of the codes table


@dataclasses.dataclass(frozen=True)
class Packed:
    """A quantised model. ``codes`` is the codes table of spec §5."""

    header: Header
    codes: np.ndarray  # uint32 [N, columns]
    gaussians: Gaussians
    ends: list[int]  # of the rows of each level


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a file's header is made of, besides the model and the coarseness."""

    recipe: Recipe
    width: int
    height: int
    groups: tuple[Group, ...]
    background: tuple[float, ...]
    lowpass: float  # pixels²: the filter that the model was fitted with
    quantizers: Quantizers | None  # learned with the model; None: over the range of its values
    finer: tuple[int, ...]  # of a lattice's step codes, per feature: how much finer than the coarseness says
    share: float = 1.0  # of what Gaussians may reach over: others of the file have the rest


def quantize_model(
    model: Model,
    plan: Plan,
    stored_at: StoredAt,
    idle: np.ndarray | None,  # Gaussians by their share of the picture, the least first; None: holes stay open
    coarseness: float,  # of a lattice; plain coding takes the recipe's bits
    ends: list[int],  # of the rows of each level
) -> Packed:
    """Codes of a model, with every point of an 8×8 grid per pixel reached by some Gaussian (``topk``).

    What the first level's Gaussians reach those of all further ones do, so that only these are looked at. Where the fit
    or rounding left points bare, Gaussians that hardly count move there; where there are too few of those the nearest
    Gaussian grows until it reaches them, which disturbs all that it blends with.
    """
    recipe, model = plan.recipe, model.clone()
    first = slice(0, ends[0])
    spare = [] if idle is None else list(idle[idle < ends[0]][: int(_SPARE * ends[0])])
    base = model.map(lambda t: t[first])  # views
    _bound_reach(model, recipe.reach2, plan.share * _REACH_RATIO * (plan.width * plan.height + 4096), plan.lowpass)

    def rounded() -> closing.Rounded:
        nonlocal coarseness
        header, codes, gaussians, coarseness = _quantized(model, plan, coarseness)
        return header, codes, gaussians

    def close(gaussians: Gaussians, points: np.ndarray) -> None:
        left = _patch(base, points, stored_at, recipe.reach2, spare)
        if len(left):
            _reach(base, gaussians, left, recipe.reach2, plan.lowpass)

    if recipe.blend != "topk" or idle is None:
        header, codes, gaussians = rounded()
    else:
        header, codes, gaussians = closing.closed(rounded, close, recipe.reach2, first)
    if header.lattice is not None:
        header = dataclasses.replace(header, lattice=best_record(header, codes, gaussians, ends))
    return Packed(header, codes, gaussians, ends)


def _quantized(model: Model, plan: Plan, coarseness: float) -> tuple[Header, np.ndarray, Gaussians, float]:
    """Header, codes and what they stand for, and the coarseness: of a lattice as near as has room for all codes.

    Means that rounding threw out of the room there is (of tiny pictures: their steps are as large) are moved, in place.
    """
    size = np.array([plan.width, plan.height], np.float64)
    for _ in range(_TRIALS):
        values = attributes(model)
        header = _header(values, plan, coarseness)
        codes = quantize(header, *values)
        gaussians = dequantize(header, codes)
        if header.lattice is None:
            return header, codes, gaussians, coarseness
        out = closing.out_of_room(gaussians, size)
        if out.any():
            inside = np.clip(values[0][out], -FAR * size, (1 + FAR) * size)
            model.position[torch.from_numpy(out)] = torch.from_numpy(inside).float()
            coarseness /= _COARSER
        elif _too_fine(codes):  # exact fits of flat pictures, values far above 1
            coarseness *= _COARSER
        else:
            return header, codes, gaussians, coarseness
    raise UsageError('coding: expected "plain" for values this far from [0, 1], found "lattice"')


def _header(values: tuple[Values, Values, Values, Values], plan: Plan, coarseness: float) -> Header:
    recipe, groups = plan.recipe, plan.groups
    rgb, channels, features = rgb_groups(groups), sum(g.channels for g in groups), values[3].shape[1]
    lattice = None
    if recipe.coding == "lattice":
        lattice = Steps.of(coarseness, channels, features, rgb).record(bool(rgb), plan.finer)
        position, scale, rotation, feature = (Quantizer.lattice(n) for n in (2, 2, 1, features))
    else:
        position, scale, rotation, feature = plan.quantizers or choose_quantizers(values, recipe)
    return Header(
        width=plan.width,
        height=plan.height,
        channels=channels,
        groups=groups,
        background=plan.background,
        position=position,
        scale=scale,
        rotation=rotation,
        feature=feature,
        blend=Blend.TOPK if recipe.blend == "topk" else Blend.SUM,
        top_k=recipe.top_k if recipe.blend == "topk" else 0,
        primitive=Primitive.GRADIENT if recipe.primitive == "gradient" else Primitive.CONSTANT,
        shape=Shape[recipe.shape.upper()],
        scale_map=ScaleMap.LOG2 if recipe.shape == "scale_rotation" else ScaleMap.RAW,
        lowpass=plan.lowpass,
        reach2=recipe.reach2,
        relative_reach2=recipe.relative_reach2 if recipe.blend == "topk" else float("inf"),
        lattice=lattice,
    )


def _too_fine(codes: np.ndarray) -> bool:
    """Whether a lattice's steps are so fine that codes of sizes or features leave the range of its models."""
    return bool((codes[:, 2:4] > _LARGEST_CODE).any() or (np.abs(codes[:, 5:].view(np.int32)) > _LARGEST_CODE).any())


def _patch(model: Model, points: np.ndarray, stored_at: StoredAt, reach2: float, spare: list[int]) -> np.ndarray:
    """Move one spare Gaussian to each cluster of bare points; returns the points for which there was none."""
    cells = np.floor(points / _CLUSTER).astype(np.int64)
    _, cluster = np.unique(cells, axis=0, return_inverse=True)
    order = np.argsort(cluster.ravel(), kind="stable")
    clusters = np.split(points[order], np.flatnonzero(np.diff(cluster.ravel()[order])) + 1)
    clusters.sort(key=len, reverse=True)
    left = clusters[len(spare) :]
    for members in clusters[: len(clusters) - len(left)]:
        who = spare.pop(0)
        centre = members.mean(axis=0)
        farthest = float(np.sqrt(((members - centre) ** 2).sum(axis=1)).max())
        sigma = max(0.5, farthest / (0.6 * math.sqrt(reach2)))
        model.position[who] = torch.from_numpy(centre).float()
        model.scale[who] = scale_parameter(model.scale.new_tensor([[sigma, sigma]]), model.scale_map)[0]
        model.rotation[who] = 0.0
        model.feature[who] = 0.0
        colours = torch.from_numpy(stored_at(centre[None])[0])
        model.feature[who, : len(colours)] = colours
    return np.concatenate([np.empty((0, 2)), *left])


def _bound_reach(model: Model, reach2: float, most: float, lowpass: float) -> None:
    """Shrink Gaussians that reach over more than ``most`` together: only ever met on tiny or flat pictures."""
    sigma = (model.sigmas().double() ** 2 + lowpass).sqrt()
    area = math.pi * reach2 * sigma[:, 0] * sigma[:, 1]
    if float(area.sum()) <= most:
        return
    factor = (most / len(model) / area).clamp_max(1).sqrt()
    scale, rotation = enlarge(model.scale, model.rotation, model.scale_map, factor)
    model.scale.copy_(scale)
    model.rotation.copy_(rotation)


def _reach(model: Model, gaussians: Gaussians, points: np.ndarray, reach2: float, lowpass: float) -> None:
    """Enlarge the nearest Gaussian of each point until it reaches it."""
    factor = closing.growth(gaussians, points, reach2)
    # What was decoded may already differ from the model: grow from the decoded deviations.
    chosen = torch.from_numpy(factor > 1)
    if is_matrix(model.scale_map):
        entries = torch.from_numpy(gaussians.covariances * (factor * factor)[:, None])[chosen]
        sxx, sxy, syy = (entries - lowpass * entries.new_tensor([1.0, 0.0, 1.0])).unbind(1)
        scale, rotation = matrix_parameters(sxx, syy, sxy, model.scale_map)
        model.scale[chosen], model.rotation[chosen] = scale.float(), rotation.float()
    else:
        grown = torch.from_numpy(np.sqrt((gaussians.scales * factor[:, None]) ** 2 - lowpass)).float()
        model.scale[chosen] = scale_parameter(grown, model.scale_map)[chosen]


def to_bytes(
    packed: Packed, codec: str, chunk_size: int | None, sections: dict[str, bytes], chunks: Chunks | None = None
) -> bytes:
    """The file. chunks: the rows of each, as :func:`chunks_of` gives; None: as suits these Gaussians."""
    levels: list[Any] = np.split(packed.codes, packed.ends[:-1])
    if chunks is not None:
        levels = [[codes[rows] for rows in level] for codes, level in zip(levels, chunks, strict=True)]
    return write(packed.header, levels, codec=Codec[codec.upper()], chunk_size=chunk_size, sections=sections)


def chunks_of(packed: Packed, chunk_size: int | None) -> Chunks:
    """The chunks that :func:`to_bytes` makes of a model, which others nearly like it can share."""
    return [chunk_rows(packed.header, codes, chunk_size) for codes in np.split(packed.codes, packed.ends[:-1])]
