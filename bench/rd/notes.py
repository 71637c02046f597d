"""What a measurement does not say of itself: why igs needs more than WebP on a picture, and what older points are."""

from __future__ import annotations

# Picture name as in the results → one sentence; the document puts it behind the picture's number.
WORSE_THAN_WEBP: dict[str, str] = {}

# How points differ from today's in something that counts: digests of the versions of igs that they are of.
_DIGESTS = {
    "before what zstd saves of a published recipe's bytes became Gaussians": ("e663b5469962", "c5154256c619"),
    "before the steps of the lattice were balanced anew (presets.md), which plain codes have none of": (
        "8a2b8dc05792", "a9a5d49e1f85", "e77ee1be5da2", "fc9b050b96e3", "a3fb06bf77f5",
    ),
}  # fmt: skip
OLDER: dict[str, str] = {f"igs 0.1.0 ({digest})": how for how, digests in _DIGESTS.items() for digest in digests}
