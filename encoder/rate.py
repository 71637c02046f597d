"""How many Gaussians a rate target buys, and which quality stands for which rate.

Every Gaussian of a recipe costs the same number of bits here, so that bytes and Gaussians convert both ways.
"""

from __future__ import annotations

import math

from igs.encoder.options import EncodeOptions, Recipe
from igs.format.errors import UsageError

# -q is a rate: 0.02 bpp at 0, ×50 up to 1 bpp at 100, geometric in between (docs/presets.md has the table).
_QUALITY_LOW, _QUALITY_SPAN = 0.02, 50.0
_HEAD_BYTES = 110  # fixed header, levels, group, checksum; the rest depends on columns
_ENTRY_BYTES = 24
MAX_SHARE = 1 / 8  # of the pixels: more Gaussians than that are no compression
SMALLEST = 1


def quality_to_bpp(quality: float) -> float:
    """The rate that a quality asks for, bits per pixel."""
    return _QUALITY_LOW * _QUALITY_SPAN ** (quality / 100)


def bits_per_gaussian(recipe: Recipe, channels: int) -> int:
    """Bits of one Gaussian under the raw codec."""
    return 2 * recipe.pos_bits + 2 * recipe.scale_bits + recipe.rot_bits + channels * recipe.feat_bits


def head_estimate(recipe: Recipe, channels: int, sections: dict[str, bytes]) -> int:
    """Bytes of the head without its index entries."""
    ranges = sum(8 * n for bits, n in ((recipe.pos_bits, 2), (recipe.scale_bits, 1), (recipe.rot_bits, 1), (recipe.feat_bits, 1)) if bits < 32)  # fmt: skip
    return _HEAD_BYTES + ranges + 4 * channels + sum(16 + len(s) for s in sections.values())


def gaussians_for_bytes(size: float, recipe: Recipe, channels: int, chunk_size: int, sections: dict[str, bytes]) -> int:
    """Gaussians that fit into a file of ``size`` bytes, at least 0."""
    per = bits_per_gaussian(recipe, channels) / 8
    left = size - head_estimate(recipe, channels, sections)
    # Small files get fewer chunks than chunk_size asks for, see format/partition.py: one entry at least.
    n = (left - _ENTRY_BYTES) / per
    if n > chunk_size:
        n = left / (per + _ENTRY_BYTES / chunk_size)
    return max(0, math.floor(n))


def smallest_file(recipe: Recipe, channels: int, sections: dict[str, bytes]) -> int:
    """Bytes of a file with one Gaussian."""
    return head_estimate(recipe, channels, sections) + _ENTRY_BYTES + math.ceil(bits_per_gaussian(recipe, channels) / 8)


def check_one_target(options: EncodeOptions) -> None:
    """At most one rate target, each in its range."""
    targets = {
        "num_gaussians": options.num_gaussians,
        "bpp": options.bpp,
        "size": options.size,
        "psnr": options.psnr,
        "quality": options.quality,
    }
    given = [name for name, value in targets.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"expected one rate target, found {' and '.join(given)}")
    for name, low, high in (
        ("num_gaussians", 1, 2**24),
        ("bpp", 1e-6, 64.0),
        ("size", 1, 2**40),
        ("psnr", 1.0, 100.0),
        ("quality", 0.0, 100.0),
    ):
        value = targets[name]
        if value is not None and not low <= value <= high:
            raise UsageError(f"{name}: expected {low:g} to {high:g}, found {value:g}")
