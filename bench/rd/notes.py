"""What a measurement does not say of itself: why igs needs more than WebP on a picture, once it is understood."""

from __future__ import annotations

# Picture name as in the results → one sentence; the document puts it behind the picture's number.
WORSE_THAN_WEBP: dict[str, str] = {}
