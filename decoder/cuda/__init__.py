"""igs.decoder.cuda: pictures sampled on a GPU by Numba kernels (spec §7, §8), with the CPU's arithmetic.

``igs.open(…, device="cuda")`` gives a :class:`CudaImage`; :func:`sampler` a device function for kernels of your own.
In file names: device (is there one?) → image (requests) → arena (Gaussians and lists on the device, made by cells) →
regions (tables for a launch) → draw, blend, arithmetic (kernels, compiled by specialize).
Importing this package loads neither numba.cuda nor a driver; what needs them does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from igs.decoder.cuda.device import available, choose, name, why_not

if TYPE_CHECKING:
    from igs.decoder.cuda.image import CudaImage as CudaImage
    from igs.decoder.cuda.texture import sampler as sampler

__all__ = ["CudaImage", "available", "choose", "name", "sampler", "why_not"]


def __getattr__(attribute: str) -> Any:
    if attribute == "CudaImage":
        from igs.decoder.cuda.device import load

        load()  # says what is missing better than an ImportError
        from igs.decoder.cuda.image import CudaImage

        return CudaImage
    if attribute == "sampler":
        from igs.decoder.cuda.device import load

        load()
        from igs.decoder.cuda.texture import sampler

        return sampler
    raise AttributeError(f"module 'igs.decoder.cuda' has no attribute {attribute!r}")
