"""A picture as a device function, for kernels of your own: what a texture fetch is to a texture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from igs.decoder.cuda.image import CudaImage
from igs.decoder.cuda.specialize import specialized
from igs.format.errors import UsageError


def sampler(
    im: CudaImage, level: int | None = None, raw: bool = False, groups: Iterable[str | int] | None = None
) -> tuple[Any, tuple[Any, ...]]:
    """→ (fetch, data): a Numba device function, and what to hand to it, a tuple of device arrays.

    In a kernel that takes ``data`` as an argument, ``fetch(data, x, y, value)`` writes the picture's value at (x, y),
    pixels, any numbers, to ``value``: float32 [C], such as ``cuda.local.array(C, float32)``. Not clipped; NaN where x
    or y isn't finite. It gives what ``im.sample`` gives, also if the kernel is compiled with ``fastmath=True``, except
    that weights may then differ within the tolerance of spec §7. ``data`` stays valid after ``im`` is closed.

    im: opened with ``device="cuda"``. level, raw, groups: as for ``im.sample``; groups of one part of the file, so that
    there is one set of Gaussians to look at. Raises UsageError for others, and for a picture on the CPU.
    """
    if not isinstance(im, CudaImage):
        raise UsageError('sampler: expected an image opened with device="cuda", found one on the CPU')
    arena = im.whole(level, raw, groups)
    return specialized("fetch", arena.kind), arena.arrays
