"""How many Gaussians a rate target buys, and which quality stands for which rate.

Every Gaussian of a recipe costs the same number of bits here, so that bytes and Gaussians convert both ways.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from igs.encoder.options import RANGES, RATES, EncodeOptions
from igs.encoder.recipe import Recipe
from igs.format import Group, Primitive, feature_columns
from igs.format.errors import UsageError
from igs.format.fields import ENTRY_BYTES, HEADER_BYTES, SECTION_ENTRY_BYTES
from igs.format.header import LATTICE_BITS
from igs.format.lattice import Lattice

# A quality is what a bit must be worth (docs/presets.md): as much as it is for photographs at 0.02 bpp (0), at 1 bpp
# (100), geometric in between. Their squared error at 0.1, 0.2 and 0.4 bpp is 1.58, 1.03 and 0.61 thousandths (by the
# mean PSNR of 16 Kodak images).
_QUALITY_LOW, _QUALITY_SPAN = 0.02, 50.0
_PHOTO_BPP, _PHOTO_ERROR, ERROR_FALL = 0.2, 1.03e-3, 0.67  # error falls with the rate, and with N, to this power
FIXED_BYTES = HEADER_BYTES + 4 + 4  # with one level and the checksum (spec §2)
_LEVEL_BYTES = 12  # of a further level
_GROUP_BYTES = 8  # without the name
# The index is about this share of the payload: what the writer's partition chooses between one entry and its own limit.
_INDEX_SHARE = 0.012
MAX_SHARE = 1 / 8  # of the pixels: more Gaussians than that are no compression
SMALLEST = 1
FEWEST = 64  # Gaussians that a quality gives even to a small picture, as long as it has 16 pixels for each


def quality_of(options: EncodeOptions) -> float:
    """The quality that holds where no other rate target is given."""
    return 75.0 if options.quality is None else options.quality


def quality_to_bpp(quality: float) -> float:
    """The rate that a quality gives photographs on the mean, bits per pixel."""
    return _QUALITY_LOW * _QUALITY_SPAN ** (quality / 100)


def least_worth(quality: float) -> float:
    """Squared error per bit per pixel: a quality buys bits as long as error over rate is above this."""
    bpp = quality_to_bpp(quality)
    return _PHOTO_ERROR * (bpp / _PHOTO_BPP) ** -ERROR_FALL / bpp


def gaussians_for_quality(quality: float, recipe: Recipe, channels: int, pixels: int) -> int:
    """Gaussians whose codes take the rate of a quality; head and metadata come on top. Small pictures get some more."""
    n = int(quality_to_bpp(quality) * pixels / bits_per_gaussian(recipe, channels))
    return max(1, n, fewest(pixels))


def fewest(pixels: int) -> int:
    """Gaussians that a quality gives any picture."""
    return min(FEWEST, pixels // 16)


def bits_per_gaussian(recipe: Recipe, channels: int) -> int:
    """Bits of one Gaussian: exact for plain coding, about so many in a lattice."""
    features, r = _features(recipe, channels), recipe
    if r.coding == "lattice":
        return LATTICE_BITS + 4 * features
    position = 16 if r.pos_quantizer == "float16" else r.pos_bits
    feature = {"float16": 16 * features, "codebook": r.feat_stages * r.feat_bits}
    return 2 * (position + r.scale_bits) + r.rot_bits + feature.get(r.feat_quantizer, features * r.feat_bits)


def _features(recipe: Recipe, channels: int) -> int:
    return feature_columns(Primitive.GRADIENT if recipe.primitive == "gradient" else Primitive.CONSTANT, channels)


def _parameter_bytes(recipe: Recipe, channels: int) -> int:
    """Bytes of the quantisers' ranges, steps and tables."""
    r, features = recipe, _features(recipe, channels)
    if r.coding == "lattice":
        return Lattice.size(features)
    apart = r.shape_quantizer == "learned" or r.shape != "scale_rotation"  # scale has a pair per column
    pairs = 2 * (r.pos_quantizer != "float16" and r.pos_bits < 32) + (1 + apart) * (r.scale_bits < 32)
    colours = 1 if r.primitive == "constant" else features
    feature = {"learned": 8 * features, "float16": 0, "codebook": 4 * r.feat_stages * 2**r.feat_bits * features}
    return 8 * (pairs + (r.rot_bits < 32)) + feature.get(r.feat_quantizer, 8 * colours * (r.feat_bits < 32))


def head_bytes(recipe: Recipe, groups: tuple[Group, ...], sections: dict[str, bytes], levels: int = 1) -> int:
    """Bytes of everything but payloads and index entries, of which each level but the first counts one."""
    channels = sum(g.channels for g in groups)
    return (
        FIXED_BYTES
        + (_LEVEL_BYTES + ENTRY_BYTES) * (levels - 1)
        + _parameter_bytes(recipe, channels)
        + 2 * channels
        + sum(_GROUP_BYTES + len(g.name.encode()) for g in groups)
        + metadata_bytes(sections)
    )


def metadata_bytes(sections: Mapping[str, bytes]) -> int:
    """What sections take of a file, with their entries in its table."""
    return sum(SECTION_ENTRY_BYTES + len(data) for data in sections.values())


def gaussians_for_bytes(
    size: float, recipe: Recipe, groups: tuple[Group, ...], sections: dict[str, bytes], levels: int = 1
) -> int:
    """Gaussians whose file has about ``size`` bytes, rather too many by a few than too few; at least 0."""
    per = bits_per_gaussian(recipe, sum(g.channels for g in groups)) / 8
    left = size - head_bytes(recipe, groups, sections, levels)
    return max(0, math.floor(min((left - ENTRY_BYTES) / per, left / (per * (1 + _INDEX_SHARE)) + 1)))


def smallest_file(recipe: Recipe, groups: tuple[Group, ...], sections: dict[str, bytes], levels: int = 1) -> int:
    """Bytes of a file with one Gaussian in each level."""
    bits = bits_per_gaussian(recipe, sum(g.channels for g in groups))
    return head_bytes(recipe, groups, sections, levels) + ENTRY_BYTES + levels * math.ceil(bits / 8)


def check_one_target(options: EncodeOptions) -> None:
    """At most one rate target, each in its range."""
    given = [name for name in RATES if getattr(options, name) is not None]
    if len(given) > 1:
        raise UsageError(f"expected one rate target, found {' and '.join(given)}")
    for name in given:
        value, (low, high) = getattr(options, name), RANGES[name]
        if not low <= value <= high:
            raise UsageError(f"{name}: expected {low} to {high}, found {value}")
