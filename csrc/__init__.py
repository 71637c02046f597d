"""Finds the compiled kernels and declares their C interface (igs_kernels.h) to ctypes. Imports neither torch nor numpy.

The library is built by the normal package build; without a compiler it is absent, and :func:`library` returns None.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

__all__ = ["Raster", "library"]

_FLOATS = ctypes.c_void_p  # float*: torch's data_ptr() as it is


class Raster(ctypes.Structure):
    """``igs_raster``: the picture, the blend, and who counts."""

    _fields_ = (
        ("width", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("num_gaussians", ctypes.c_int32),
        ("blend", ctypes.c_int32),
        ("top_k", ctypes.c_int32),
        ("reach2", ctypes.c_float),
        ("relative_reach2", ctypes.c_float),
        ("pull", ctypes.c_float),
        ("pull_reach2", ctypes.c_float),
        ("background", _FLOATS),
        ("lit", _FLOATS),
    )


def _declare(lib: ctypes.CDLL) -> None:
    bins, raster = ctypes.c_void_p, ctypes.POINTER(Raster)
    i32, i64, f32 = ctypes.c_int32, ctypes.c_int64, ctypes.c_float
    signatures: dict[str, tuple[object, list[object]]] = {
        "igs_bins_create": (bins, []),
        "igs_bins_destroy": (None, [bins]),
        "igs_bin": (i64, [bins, raster, _FLOATS, _FLOATS]),
        "igs_bins_work": (None, [bins, ctypes.POINTER(i64)]),
        "igs_rasterize_forward": (ctypes.c_int, [bins, raster, *[_FLOATS] * 4]),
        "igs_rasterize_backward": (ctypes.c_int, [bins, raster, *[_FLOATS] * 7]),
        "igs_rasterize_fused": (
            ctypes.c_int,
            [bins, raster, *[_FLOATS] * 5, f32, f32, _FLOATS, ctypes.POINTER(ctypes.c_double), *[_FLOATS] * 3],
        ),
        "igs_removal_costs": (ctypes.c_int, [bins, raster, *[_FLOATS] * 6]),
        "igs_loss": (
            ctypes.c_int,
            [i32, i32, i32, *[_FLOATS] * 3, f32, f32, f32, ctypes.POINTER(ctypes.c_double), _FLOATS],
        ),
        "igs_halve": (None, [i32, i32, i32, _FLOATS, _FLOATS]),
        "igs_add_spread": (None, [i32, i32, i32, _FLOATS, f32, _FLOATS]),
        "igs_factors_forward": (None, [i64, i32, f32, f32, f32, *[_FLOATS] * 3]),
        "igs_factors_backward": (None, [i64, i32, f32, f32, f32, *[_FLOATS] * 5]),
        "igs_add_noise": (None, [i64, i32, f32, f32, i32, *[_FLOATS] * 3, i32, *[_FLOATS] * 9]),
        "igs_adam": (None, [ctypes.c_void_p]),
        "igs_set_num_threads": (None, [i32]),
        "igs_target": (ctypes.c_char_p, []),
        "igs_set_target": (ctypes.c_int, [ctypes.c_char_p]),
        "igs_fma_peak": (ctypes.c_double, [ctypes.c_double]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where the package was installed without a C++ compiler."""
    found = Path(__file__).parent.glob("_kernels*")
    for path in sorted(p for p in found if p.suffix in (".so", ".pyd")):
        try:
            lib = ctypes.CDLL(str(path))
            _declare(lib)
        except (OSError, AttributeError):  # built for another machine, or by another version
            continue
        return lib
    return None
