"""What a file of a texture stack is a map of, told from its name, and what follows for its channels.

Names are those that material libraries, engines and glTF use: ``Rock030_2K-JPG_AmbientOcclusion.jpg``,
``brick_wall_001_nor_gl_1k.png``, ``T_Door_BaseColor.tga``, ``wood_metallicRoughness.png``. Only names are looked at.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from igs.format import Colour, Transfer


@dataclasses.dataclass(frozen=True)
class Role:
    """A kind of map. scalar: one channel says it all; aliases: how else its name is written, in lower case, joined."""

    name: str
    aliases: tuple[str, ...]
    transfer: Transfer = Transfer.LINEAR
    scalar: bool = True
    colour: Colour | None = None  # None: grey for one channel, RGB for three

    def colour_of(self, channels: int) -> Colour:
        """The colour of a group of so many channels, alpha not counted."""
        expected = self.colour or {1: Colour.GREY, 3: Colour.RGB}.get(channels, Colour.UNSPECIFIED)
        return expected if expected.channels in (None, channels) else Colour.UNSPECIFIED


def _colours(name: str, *aliases: str) -> Role:
    return Role(name, aliases, Transfer.SRGB, scalar=False)


def _vectors(name: str, *aliases: str) -> Role:
    return Role(name, aliases, scalar=False, colour=Colour.NORMAL)


def _packed(name: str, *aliases: str) -> Role:
    return Role(name, aliases, scalar=False, colour=Colour.UNSPECIFIED)


def _scalar(name: str, *aliases: str) -> Role:
    return Role(name, aliases)


# In the order in which the groups of a directory stand in the file.
ROLES = (
    _colours("albedo", "alb", "basecolor", "basecolour", "base", "diffuse", "diff", "color", "colour", "col"),
    _vectors("normal", "norm", "nor", "nrm", "nml"),
    _vectors("normal_gl", "normalgl", "norgl", "normalogl", "noropengl", "normalopengl"),
    _vectors("normal_dx", "normaldx", "nordx", "nordirectx", "normaldirectx"),
    _scalar("ao", "ambientocclusion", "occlusion", "occ", "mixedao"),
    _scalar("roughness", "rough", "rgh"),
    _scalar("metalness", "metallic", "metal", "met", "mtl"),
    _scalar("height", "displacement", "displace", "disp", "depth", "parallax"),
    _scalar("bump"),
    _colours("emissive", "emission", "emit", "glow"),
    _scalar("opacity", "transparency", "alpha", "cutout"),
    _colours("specular", "spec", "reflection", "refl"),
    _scalar("glossiness", "gloss", "smoothness", "smooth"),
    _colours("translucency", "translucent", "subsurface", "sss", "scatter", "scattering"),
    _scalar("transmission", "transmissive"),
    _scalar("thickness"),
    _scalar("clearcoat", "coat"),
    _colours("sheen", "fuzz"),
    _scalar("anisotropy", "aniso"),
    _scalar("cavity"),
    _scalar("curvature", "curv"),
    _scalar("mask"),
    # One map per channel, in the order of the letters; glTF puts roughness into green and metalness into blue.
    _packed("orm", "occlusionroughnessmetallic", "occlusionroughnessmetalness"),
    _packed("arm"),
    _packed("rma"),
    _packed("metallicroughness", "metalroughness", "metalnessroughness"),
)
_BY_NAME = {alias: role for role in ROLES for alias in (role.name.replace("_", ""), *role.aliases)}
_ORDER = {role.name: i for i, role in enumerate(ROLES)}
# CamelCase, snake_case and digits apart: NormalGL → normal, gl; 2K and 001 are words of their own.
_WORD = re.compile(r"\d+[kK]?(?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+|\d+")
_NOISE = re.compile(r"\d+k?|map|maps|tex|texture|png|jpe?g|exr|tiff?|tga|webp|u?int|bit|srgb|linear|raw")


def words(stem: str) -> list[str]:
    """The words of a file's name without its suffix, in lower case."""
    return [word.lower() for word in _WORD.findall(stem)]


def common_start(stems: Sequence[str]) -> int:
    """With how many words all of several names begin: the material's name, which may itself sound like a map's."""
    if len(stems) < 2:
        return 0
    count = 0
    for column in zip(*map(words, stems), strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count


def role_of(stem: str, skip: int = 0) -> Role | None:
    """What the map called so is, by the last words of its name that say something; None if none does.

    skip: so many words at the beginning are the material's.
    """
    left = words(stem)[skip:]
    while left:
        if _NOISE.fullmatch(left[-1]):
            left.pop()
            continue
        for start in range(max(0, len(left) - 3), len(left)):  # the longest first: nor_gl before gl
            joined = "".join(left[start:])
            if joined.endswith("map") and joined[:-3] in _BY_NAME:
                joined = joined[:-3]
            if joined in _BY_NAME:
                return _BY_NAME[joined]
        left.pop()
    return None


def order_of(role: Role) -> int:
    """Where a role's group stands among others."""
    return _ORDER.get(role.name, len(ROLES))
