"""igs: an image codec that stores a picture as 2D Gaussians and samples it anywhere.

This module is a thin face: ``igs.open``, ``igs.decode_many`` and ``igs.encode`` load what they need on first use, so
that ``import igs`` is quick and decoding never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from igs.decoder import Image
    from igs.decoder import decode_many as decode_many
    from igs.decoder import open as open
    from igs.encoder import TextureMap as TextureMap
    from igs.encoder import encode as encode
    from igs.format import Limits
    from igs.format.errors import IgsError, IgsWarning, InputError, InvalidFile, LimitExceeded, Unsupported, UsageError

__version__ = "0.1.0"
__all__ = [
    "IgsError",
    "IgsWarning",
    "Image",
    "InputError",
    "InvalidFile",
    "LimitExceeded",
    "Limits",
    "TextureMap",
    "Unsupported",
    "UsageError",
    "decode_many",
    "encode",
    "open",
]

_LAZY = {
    "open": ("igs.decoder", "open"),
    "decode_many": ("igs.decoder", "decode_many"),
    "Image": ("igs.decoder", "Image"),
    "TextureMap": ("igs.encoder", "TextureMap"),
    "encode": ("igs.encoder", "encode"),
    "Limits": ("igs.format", "Limits"),
    **{
        name: ("igs.format.errors", name)
        for name in (
            *("IgsError", "IgsWarning", "InputError", "InvalidFile", "LimitExceeded", "Unsupported", "UsageError"),
        )
    },
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        module, attribute = _LAZY[name]
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'igs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
