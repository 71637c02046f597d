"""What counts more than the rest of a picture: regions of interest and salient pixels, as a map of the loss.

The map multiplies each pixel's error in the fit's loss, and the chance that a first Gaussian starts there. The file
knows nothing of it: a decoder sees Gaussians that are many and fine in one place, few and coarse in another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from igs.encoder import metrics
from igs.encoder.fitting import saliency
from igs.encoder.fitting.init import Map, resample_map
from igs.encoder.loading.image import load_image
from igs.encoder.loading.source import SourceImage
from igs.encoder.options import MOST_WEIGHT, ROI_WEIGHT, EncodeOptions
from igs.encoder.recipe import Recipe, is_number, plain
from igs.format import Group
from igs.format.errors import UsageError

_LEAST = 0.02  # of the map's mean: 17 dB, below which a region is as good as lost
Region = tuple[int, int, int, int, float]  # x, y, w, h in pixels, weight


def checked(roi: Sequence[Sequence[float]], width: int, height: int) -> list[Region]:
    """Regions (x, y, w, h[, weight]) of a picture. Raises UsageError for one that isn't inside, or of a bad weight."""
    found: list[Region] = []
    for entry in roi:
        numbers: list[float] = [plain(v, (float,)) for v in entry if is_number(v)]
        if len(numbers) not in (4, 5) or len(numbers) != len(entry):
            raise UsageError(f"roi: expected x, y, w, h and perhaps a weight, found {entry!r}")
        x, y, w, h, weight = [*numbers, ROI_WEIGHT][:5]
        if not all(v.is_integer() for v in (x, y, w, h)):
            raise UsageError(f"roi: expected whole pixels, found {x:g},{y:g},{w:g},{h:g}")
        inside = x >= 0 and y >= 0 and w >= 1 and h >= 1 and x + w <= width and y + h <= height
        if not inside:
            raise UsageError(
                f"roi: expected a rectangle inside the picture of {width}×{height}, found {x:g},{y:g},{w:g},{h:g}"
            )
        if not (math.isfinite(weight) and 1 / MOST_WEIGHT <= weight <= MOST_WEIGHT):
            raise UsageError(f"roi: expected a weight of {1 / MOST_WEIGHT:g} to {MOST_WEIGHT:g}, found {weight:g}")
        found.append((int(x), int(y), int(w), int(h), weight))
    return found


def inside(roi: Sequence[Region], width: int, height: int) -> NDArray[np.bool_]:
    """Which pixels [H, W] lie in any of the regions."""
    mask = np.zeros((height, width), np.bool_)
    for x, y, w, h, _ in roi:
        mask[y : y + h, x : x + w] = True
    return mask


def map_from_file(path: Path, width: int, height: int) -> Map:
    """Any image as a map [H, W] of the picture's size, 0 or more: its colours' mean, over black where it has alpha.

    Raises InputError for one that can't be read.
    """
    source = load_image(path)
    return resample_map(saliency.flat(source.pixels, source.groups).mean(axis=2, dtype=np.float64), width, height)


def network_map(source: SourceImage, options: EncodeOptions, recipe: Recipe, groups: Sequence[Group]) -> Map | None:
    """Saliency [H, W] by EML-Net, once for all that an encode does with it; None where it does nothing with it."""
    used = recipe.init == "saliency" or options.saliency_weight
    if recipe.saliency != "eml-net" or options.saliency_map is not None or not used:
        return None
    return saliency.map_of(recipe.saliency, source.pixels, groups, options.saliency_network)


def loss_map(source: SourceImage, options: EncodeOptions, recipe: Recipe, by_network: Map | None = None) -> Map | None:
    """Weights [H, W] of a picture's pixels, of mean 1 and above 0.019; None where all count the same.

    The product of the regions' weights (of the last given where they overlap, 1 outside of all) and
    1 + saliency_weight·saliency in [0, 1]. by_network: that saliency, where it is EML-Net's and known already.
    Raises UsageError for bad regions or weights.
    """
    if not (math.isfinite(options.saliency_weight) and 0 <= options.saliency_weight <= MOST_WEIGHT):
        raise UsageError(f"saliency_weight: expected 0 to {MOST_WEIGHT:g}, found {options.saliency_weight:g}")
    roi = checked(options.roi, source.width, source.height)
    if not roi and not options.saliency_weight:
        return None
    weights = np.ones((source.height, source.width))
    for x, y, w, h, weight in roi:
        weights[y : y + h, x : x + w] = weight
    if options.saliency_weight:
        if options.saliency_map is not None:
            found = map_from_file(options.saliency_map, source.width, source.height)
        elif by_network is not None:
            found = by_network
        else:
            found = saliency.map_of(recipe.saliency, source.pixels, source.groups, options.saliency_network)
        weights *= 1 + options.saliency_weight * saliency.normalized(found)
    if weights.min() == weights.max():
        return None
    weights = np.maximum(weights, _LEAST * weights.mean())
    return np.asarray(weights / weights.mean())


def quality(
    strips: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]], mask: NDArray[np.bool_], channels: int
) -> dict[str, float | None]:
    """PSNR in dB of two pictures inside a mask [H, W] and outside; None where equal, or where nothing is there.

    strips: both by rows from the top, [rows, W, C].
    """
    found = {"roi_psnr": metrics.Errors(channels), "rest_psnr": metrics.Errors(channels)}
    first = 0
    for decoded, source in strips:
        rows = mask[first : first + len(source)]
        first += len(source)
        for errors, part in zip(found.values(), (rows, ~rows), strict=True):
            errors.add(decoded[part], source[part])
    return {name: errors.psnr() for name, errors in found.items()}
