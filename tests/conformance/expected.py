"""Values that a valid file of the conformance set must have: spec §7 to §9 in binary64, written to be read.

Which Gaussians count, and how they combine at a point, is the decoder's slow reference; levels, grids, means over a
pixel, alpha, gamma and integers are done here once more, apart from the decoder.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from igs.decoder.reference import values_reference
from igs.decoder.rule import Rule
from igs.format import Alpha, Blend, FileReader, Gaussians, Group, Header, LevelMode, Limits, Transfer, open_file

MIN_ALPHA = 2.0**-9
MEAN_UNIT = 2.0**-14  # pixel

# Case → regions (x, y, w, h, s). Scale 0.4 takes the mean of 3 × 3 points; 2.5 makes 7.5 rows, rounded to 8.
# Scale 1/3 takes 3 × 3, scale 1/49 50 × 50: by the quotient as it is rounded.
WHOLE, DETAIL = (0, 0, 16, 12, 0.4), (3.5, 2.25, 4, 3, 2.5)
REGIONS: dict[str, Sequence[tuple[float, ...]]] = {
    "uniform": (WHOLE, DETAIL, (5, 4, 3, 2, 1), (0, 0, 16, 12, 1 / 3), (0, 0, 16, 12, 1 / 49)),
    "faint_alpha_and_negative_log": ((2, 5, 9, 1, 1),),
    "sum": (WHOLE, DETAIL),
    "premultiplied_gamma": (WHOLE, DETAIL),
    "premultiplied_clear": ((0, 0, 16, 12, 0.75), (9.5, 9.5, 4, 2.5, 2.5)),
    "transfers": (WHOLE, DETAIL),
    "gamma_below_0": (WHOLE, DETAIL),
    "groups": (WHOLE, (3.5, 2.25, 2, 1, 2.5)),
    "gradient": (WHOLE, DETAIL),
    "parts": (WHOLE, DETAIL),
    "levels_residual": (WHOLE, DETAIL),
    "widest": ((65536 - 2.0**-10, 6, 2.0**-10, 2.0**-15, 2.0**15),),
    "two_stage": ((40, 20, 60, 40, 0.1), (100.5, 60, 4, 3, 2.5)),
    "two_stage_partial": ((70, 3, 30, 20, 0.4),),
}

# Of cases that are for their Gaussians a few points will do; others are for certain points.
FEW_POINTS = {
    "cospi_last_bit",
    "columns_long",
    "exp2_last_bit",
    "lattice_1000",
    "lattice_coarse",
    "lattice_fine",
    "lattice_flat",
    "lattice_neighbours",
    "lattice_two_rgb",
    "lattice_ycbcr_without_rgb",
    "log2_last_bit",
    "means_rounded_and_clamped",
    "reach_area_within_tolerance",
    "scale_inverse_below_0",
    "scale_raw_beyond",
    "uniform_rounding",
    "widest",
    "zstd_dictionary_0",
}
# fmt: off
_BORDERS = [  # X, Y in units of the mean: see valid_cases.py
    (22958063, 447028), (22979543, 367572), (23182541, 193181), (23339327, 578661), (23341091, 761544),
    (23351768, 168330), (23351769, 168330), (23361426, 859032), (23394833, 540926), (23451758, 229538),
    (23467664, 378747), (23488644, 482633), (23729848, 253076), (23730729, 463745), (23759414, 267252),
    (23803627, 603899), (23817822, 627765), (23916750, 264782), (23968895, 258089), (23980818, 816560),
    (24032358, 783226), (24111671, 838401), (24111883, 837825), (24138713, 577041), (24352093, 1013389),
    (24479975, 970585), (24480676, 964732), (24481543, 956383), (24482195, 873923), (24493178, 966445),
]
# fmt: on
POINTS = {"d2_at_borders": [[x * MEAN_UNIT, y * MEAN_UNIT] for x, y in _BORDERS]}

# Cases whose Gaussians are listed, as they are for a rounding.
LISTED = {f"{name}_last_bit" for name in ("cospi", "exp2", "log2")}
LISTED |= {
    "d2_at_borders",
    "means_rounded_and_clamped",
    "scale_inverse_below_0",
    "scale_raw_beyond",
    "uniform_rounding",
}
# Cases that need other limits (spec §12) than the defaults.
LIMITS = {"widest": {"side": 65536}}


def sample_points(width: int, height: int) -> np.ndarray:
    """Pixel centres on a coarse grid, points between, on and outside the border."""
    rng = np.random.default_rng(9)
    step = 3 if width < 100 else 19
    grid = np.stack(np.meshgrid(np.arange(0.5, width, step), np.arange(0.5, height, step)), axis=-1).reshape(-1, 2)
    between = np.round(rng.uniform(0, 1, (24, 2)) * [width, height], 4)
    outside = np.array([[0, 0], [width, height], [-3.25, 5], [width + 40.0, 2.5], [1e6, -1e6]])
    return np.concatenate([grid, between, outside])


def stored_values(file: FileReader, points: np.ndarray, level: int) -> np.ndarray:
    """Stored values at points [m, 2] in pixels, from all Gaussians of the levels 0 … level → [m, C]."""
    if len(file.parts) > 1:
        return _values_of_parts(file, points)
    first, last = file.level_range(level)
    parts = [Gaussians.concatenate(file.read_gaussians(range(first, last)))]
    rules = [Rule.of(file.header)]
    if file.header.level_mode == LevelMode.RESIDUAL:
        bounds = [x.first_chunk for x in file.levels[: level + 1]] + [last]
        parts = [Gaussians.concatenate(file.read_gaussians(range(a, b))) for a, b in itertools.pairwise(bounds)]
        rules += [rules[0].without_background()] * level
    return _sum_of(parts, rules, file.header, points)


def _values_of_parts(file: FileReader, points: np.ndarray) -> np.ndarray:
    """The channels of each part from its own Gaussians (spec §3.6)."""
    total = np.empty((len(points), file.header.channels))
    for part in file.parts:
        own = Gaussians.concatenate(file.read_gaussians(range(part.first_chunk, part.last_chunk)))
        total[:, part.channels] = _sum_of([own], [Rule.of(part.header)], part.header, points)
    return total


def _sum_of(parts: list[Gaussians], rules: list[Rule], header: Header, points: np.ndarray) -> np.ndarray:
    """What sets of Gaussians, each blended by itself, give together."""
    fixed = np.floor(points * 2.0**14 + 0.5)
    inside = ((fixed >= -(2.0**30)) & (fixed <= 2.0**30 - 1)).all(axis=1)
    total = np.tile(np.array(header.background), (len(points), 1))
    total[inside] = sum(
        values_reference(g.means, g.factors, g.features, fixed[inside].astype(np.int32), rule)
        for g, rule in zip(parts, rules, strict=True)
    )
    return total


def stored_region(file: FileReader, region: Sequence[float], level: int) -> np.ndarray:
    """Stored values of a region (spec §8.1, §8.2) → [rows, columns, C]."""
    x, y, w, h, s = region
    columns, rows = max(1, math.floor(w * s + 0.5)), max(1, math.floor(h * s + 0.5))
    n = math.ceil(1 / s) if s < 1 else 1
    last = (2.0**30 - 1) * MEAN_UNIT  # points beyond it are taken there
    points = [
        [min((i + (a + 0.5) / n) / s + x, last), min((j + (b + 0.5) / n) / s + y, last)]
        for j in range(rows)
        for i in range(columns)
        for b in range(n)
        for a in range(n)
    ]
    return stored_values(file, np.array(points), level).reshape(rows, columns, n * n, -1).mean(axis=2)


def picture_values(stored: np.ndarray, groups: Sequence[Group]) -> np.ndarray:
    """Picture values from stored values [..., C] (spec §8.3)."""
    out = stored.copy()
    start = 0
    for group in groups:
        end = start + group.channels
        colours = slice(start, end - (group.alpha != Alpha.NONE))
        if group.alpha == Alpha.PREMULTIPLIED:
            alpha = stored[..., end - 1 : end]
            out[..., colours] = np.where(alpha >= MIN_ALPHA, out[..., colours] / np.maximum(alpha, MIN_ALPHA), 0)
        if group.gamma != 1:
            out[..., colours] = np.maximum(out[..., colours], 0) ** group.gamma
        if group.transfer == Transfer.PQ:
            x = np.minimum(np.maximum(out[..., colours], 0), 1) ** (32 / 2523)
            light = np.maximum(x - 107 / 128, 0) / (2413 / 128 - (2392 / 128) * x)
            out[..., colours] = (10000 / 203) * light ** (8192 / 1305)
        if group.transfer == Transfer.LOG:
            u = out[..., colours]
            out[..., colours] = np.sign(u) * (2 ** (24 * np.minimum(np.abs(u), 5)) - 1) / 256
        start = end
    return out


def picture_bounds(stored: np.ndarray, tolerance: float, groups: Sequence[Group]) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest picture values that stored values within the tolerance give.

    Every value is monotone in its own stored value and in alpha, so that the extremes are at the corners.
    """
    is_alpha = np.zeros(stored.shape[-1], bool)
    ends = np.cumsum([g.channels for g in groups])
    is_alpha[[end - 1 for end, g in zip(ends, groups, strict=True) if g.alpha != Alpha.NONE]] = True
    corners = [
        picture_values(stored + tolerance * np.where(is_alpha, alpha, colour), groups)
        for alpha in (-1, 1)
        for colour in (-1, 1)
    ]
    return np.min(corners, axis=0), np.max(corners, axis=0)


def integers(picture: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned integers from picture values (spec §8.3)."""
    return np.floor(np.clip(picture, 0, 1) * (2**bits - 1) + 0.5).astype(np.int64)


def tolerance(header: Header, max_feature: float, num_gaussians: int, level: int) -> float:
    """By how much a stored value may be off (spec §7), for the small pictures of the conformance set."""
    overlap = num_gaussians if header.blend == Blend.SUM else 1  # ≥ Σ Gᵢ
    added = level + 1 if header.level_mode == LevelMode.RESIDUAL else 1
    return 2.0**-17 * max(1.0, max_feature) * overlap * added


def expectation(name: str, data: bytes) -> dict[str, Any]:
    """What <case>.json holds."""
    with open_file(data, Limits(**LIMITS.get(name, {}))) as file:
        header, available = file.header, range(file.available_levels)
        points = sample_points(header.width, header.height)
        if name in FEW_POINTS:
            points = points[:: max(len(points) // 10, 1)]
        if name in POINTS:
            points = np.array(POINTS[name])
        peaks = [
            _peak(part.header, g.features)
            for part in file.parts
            for g in file.read_gaussians(range(part.first_chunk, min(part.last_chunk, file.level_range()[1])))
        ]
        peaks += [abs(v) for v in header.background]
        found: dict[str, Any] = {"points": points.tolist(), "max_feature": max(peaks)}
        found["gaussians_crc"] = gaussians_crc(file)
        if name in LISTED:
            found["gaussians"] = _listed(file)
        if name in LIMITS:
            found["limits"] = LIMITS[name]
        found["levels"] = [_rounded(stored_values(file, points, level)) for level in available]
        if name in REGIONS:
            found["regions"] = [_region(file, r, level) for level in available for r in REGIONS[name]]
    return found


def gaussians_crc(file: FileReader) -> str:
    """The CRC of all Gaussians that the file holds, in its order: M, then P, Q, R_, then features; −0 as 0."""
    crc = 0
    for gaussians in map(file.gaussians, range(file.level_range()[1])):
        for mean, factor, feature in zip(gaussians.means, gaussians.factors, gaussians.features, strict=True):
            floats = np.concatenate([factor, feature]).astype("<f4") + np.float32(0)
            crc = zlib.crc32(mean.astype("<i4").tobytes() + floats.tobytes(), crc)
    return f"{crc:08x}"


def _listed(file: FileReader) -> list[list[Any]]:
    """Of each Gaussian Mx, My, and in hexadecimal P, Q, R_ and the features."""
    return [
        [*mean, *(float(v).hex() for v in (*factor, *feature))]
        for g in map(file.gaussians, range(file.level_range()[1]))
        for mean, factor, feature in zip(g.means.tolist(), g.factors, g.features, strict=True)
    ]


def _peak(header: Header, features: np.ndarray) -> float:
    """The largest |c|, with a gradient |c| + (|a| + |b|)·R."""
    colours, slopes = np.split(np.abs(features.astype(np.float64)), [header.channels], axis=1)
    return float((colours.max(axis=1) + slopes.sum(axis=1) * math.sqrt(header.reach2)).max())


def _region(file: FileReader, region: Sequence[float], level: int) -> dict[str, Any]:
    stored = stored_region(file, region, level)
    picture = picture_values(stored, file.header.groups)
    values = {"stored": _rounded(stored), "picture": _rounded(picture), "uint8": integers(picture, 8).tolist()}
    return {"region": list(region), "level": level} | values


def _rounded(values: np.ndarray) -> Any:
    """Nested lists with 8 significant digits."""
    if values.ndim > 1:
        return [_rounded(row) for row in values]
    return [float(f"{v:.8g}") for v in values.tolist()]
