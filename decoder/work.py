"""How much a request may be worth (spec §12): Gaussians that are tried at its sample points, however small the file.

The index bounds the *area* that Gaussians reach over before anything is decoded. Thousands of needles have next to none
and yet cross the tiles of a whole row, and what lies in one place counts as often as somebody asks there. So what the
lists hold is counted too, before it is tried.
"""

from __future__ import annotations

from typing import NamedTuple

from igs.format.error_codes import invalid

TILE_POINTS = 256  # of a tile: each entry of its list is tried at so many points
_FLOOR = 4096  # points added to all that is asked for, as to the picture's: a small request may be a crowded place


class Work(NamedTuple):
    """A part of a request."""

    reach_ratio: float  # the limit
    points: int  # of this part
    of: int  # of all parts

    @property
    def most(self) -> float:
        """How many tries the limit allows."""
        return self.reach_ratio * self.points * (1 + _FLOOR / max(self.of, 1))

    def check(self, tries: float) -> None:
        """Raise LimitExceeded (``E_LIMIT_REACH_RATIO``) if there are more."""
        if tries > self.most:
            found = f"{tries / self.most * self.reach_ratio:.6g} Gaussians to try for each sample point"
            raise invalid("E_LIMIT_REACH_RATIO", f"reach_ratio of at most {self.reach_ratio:g}", found)
