"""igs.encoder: fits Gaussians to a picture and writes them as an .igs file, for which it needs torch.

Loading pictures and storing the Gaussians of a file in fewer bits need none.

The pipeline in file names: loading/ (source, image, stack) → regions → rate → fitting/ (places, population, fit) on
raster/ (model, loss, adam, backend; over kernels, cuda_kernels or tiled, all after reference), several levels by levels
→ freeze on rounding/ (lattice, compensation; quantize for plain codes) → pack (closing). job holds an encode together,
targets meets its rate, pipeline is the whole; of a stack parts says which maps share Gaussians, and multipart encodes
these sets one by one.
"""

from typing import TYPE_CHECKING, Any

from igs.encoder.loading.image import load_image
from igs.encoder.loading.source import SourceImage
from igs.encoder.loading.stack import TextureMap
from igs.encoder.options import EncodeOptions, Progress
from igs.encoder.presets import PRESETS
from igs.encoder.recipe import Recipe

if TYPE_CHECKING:
    from igs.encoder.fewer_bits import requantize
    from igs.encoder.pipeline import Encoded, encode

__all__ = [
    "PRESETS",
    "EncodeOptions",
    "Encoded",
    "Progress",
    "Recipe",
    "SourceImage",
    "TextureMap",
    "encode",
    "load_image",
    "requantize",
]


def __getattr__(name: str) -> Any:
    # Only encoding itself needs torch: options and loading are wanted by `igs-encode --help` and without it.
    if name in ("encode", "Encoded"):
        from igs.encoder import pipeline

        return getattr(pipeline, name)
    if name == "requantize":  # which needs no torch, but loads Numba
        from igs.encoder.fewer_bits import requantize

        return requantize
    raise AttributeError(f"module 'igs.encoder' has no attribute {name!r}")
