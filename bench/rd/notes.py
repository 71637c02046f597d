"""What a measurement does not say of itself: why igs needs more than WebP on a picture, and what older points are."""

from __future__ import annotations

# Picture name as in the results → one sentence; the document puts it behind the picture's number.
WORSE_THAN_WEBP: dict[str, str] = {}

_NOT_FILLED = "before what zstd saves of a published recipe's bytes became Gaussians"
# Version of a codec → how its points differ from today's in something that counts.
OLDER: dict[str, str] = {f"igs 0.1.0 ({digest})": _NOT_FILLED for digest in ("e663b5469962", "c5154256c619")}
_FINER_MEANS = "before the steps of the lattice were balanced anew (presets.md), which plain codes have none of"
for _digest in ("8a2b8dc05792", "a9a5d49e1f85", "e77ee1be5da2", "fc9b050b96e3", "a3fb06bf77f5"):
    OLDER[f"igs 0.1.0 ({_digest})"] = _FINER_MEANS
