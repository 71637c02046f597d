"""How the decoder's kernels are compiled; see igs.format.jit."""

from __future__ import annotations

from igs.format.jit import inline, kernels

__all__ = ["inline", "kernel"]

kernel = kernels(__file__, "simd.py", "bins.py", "candidates.py", "blend.py", "tiles.py")
