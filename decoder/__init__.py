"""igs.decoder: `.igs` bytes → values, anywhere in the picture (spec §7 to §9). Never imports torch.

The pipeline in file names: image (requests, levels) → part (one set of Gaussians) → store (chunks read so far) → grid →
strips, sample (work for threads) → output, convert. Inside the kernels of tiles, points, coverage: bins (lists per
tile) → candidates (per tile and block) → blend (who counts, weights). ``reference`` is the slow, obvious version that
the kernels agree with; ``simd`` and ``jit`` are how they compile. ``many`` decodes files in a row, ``cuda`` is all of
it on a GPU, ``measure`` judges what comes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from igs.decoder.image import Image, open
from igs.decoder.many import decode_many
from igs.decoder.strips import render

if TYPE_CHECKING:
    from igs.decoder.coverage import holes

__all__ = ["Image", "decode_many", "holes", "open", "render"]


def __getattr__(name: str) -> Any:
    if name == "holes":  # loads Numba
        from igs.decoder.coverage import holes

        return holes
    raise AttributeError(f"module 'igs.decoder' has no attribute {name!r}")
