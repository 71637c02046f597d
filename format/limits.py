"""Limits (spec §12): what a file may ask for before it is refused. On by default; every one can be changed.

They stop small files from demanding large amounts of memory or work. They are no part of a file's validity.
"""

from __future__ import annotations

import dataclasses
import math

from igs.format.error_codes import invalid
from igs.format.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Upper bounds, inclusive; ``math.inf`` switches one off. Names and defaults are those of spec §12."""

    pixels: float = 2**28
    side: float = 32768
    gaussians: float = 2**24
    channels: float = 64
    head_bytes: float = 2**26
    section_bytes: float = 2**24
    chunk_bytes: float = 2**24  # decoded codes of one chunk, 4 bytes a code
    reach_ratio: float = 4096.0  # Σ reach_area / (width·height + 4096); Gaussians to try per sample point
    gaussians_per_byte: float = 64.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if math.isnan(value) or value < 0:
                raise UsageError(f"limit {field.name}: expected a number of 0 or more, found {value}")

    def with_room(self, width: int, height: int) -> Limits:
        """Limits for one's own file of so many pixels, which is opened however large and crowded it is."""
        pixels, side = max(self.pixels, width * height), max(self.side, width, height)
        return dataclasses.replace(self, pixels=pixels, side=side, reach_ratio=math.inf)

    def check(self, name: str, value: float, offset: int | None = None) -> None:
        """Raise LimitExceeded (``E_LIMIT_<NAME>``) if ``value`` is above the limit ``name``."""
        limit = getattr(self, name)
        if not value <= limit:
            found = f"{value:.6g}" if isinstance(value, float) else str(value)
            raise invalid(f"E_LIMIT_{name.upper()}", f"{name} of at most {limit:g}", found, offset)
