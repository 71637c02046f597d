"""Reads OpenEXR pictures: linear light in float, by the OpenEXR library (extra ``images``).

The first part that has pixels; R, G, B or Y with A, and otherwise all channels by name. Colours are premultiplied in
these files and are divided by alpha here. No deep, subsampled or luminance-chroma pictures.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from igs.encoder.loading.deep import EXTRA, Deep, SizeLimits, unpremultiplied
from igs.format import Transfer
from igs.format.errors import InputError, Unsupported
from igs.format.sections import METRES_PER_INCH, phys_section
from igs.format.transfer import linear_range

_LAYOUTS = (("R", "G", "B", "A"), ("R", "G", "B"), ("Y", "A"), ("Y",))
_STDERR = threading.Lock()


def read_exr(file: BinaryIO, limits: SizeLimits, name: str) -> Deep:
    """The picture. Raises Unsupported where the library is missing or the kind of file is none of ours, InputError."""
    try:
        library = importlib.import_module("OpenEXR")
    except ImportError as error:
        raise Unsupported(f"{name}: reading EXR needs the OpenEXR library: {EXTRA}") from error
    try:
        with _quiet():
            file.seek(0)
            header = library.File(file, header_only=True)
            for part in header.parts:
                low, high = (np.asarray(corner, np.int64) for corner in part.header["dataWindow"])
                width, height = (high - low + 1).tolist()
                limits.check(width, height, name, len(part.header["channels"]))
                if "deep" in str(part.type()).lower():
                    raise Unsupported(f"{name}: deep EXR pictures are not supported; flatten it first")
            file.seek(0)
            parts = library.File(file, separate_channels=True).parts if header.parts else []
            planes = {key: np.array(channel.pixels) for key, channel in parts[0].channels.items()} if parts else {}
    except (InputError, Unsupported, MemoryError):
        raise
    except Exception as error:  # the binding raises RuntimeError, UnicodeDecodeError, … on damaged files
        raise InputError(f"{name}: can't be read as EXR: {str(error).strip() or type(error).__name__}") from error
    if not planes:  # the binding prints a warning and leaves the part out
        raise InputError(f"{name}: can't be read as EXR: damaged or truncated")
    notes = [f"{name}: only the first of {len(header.parts)} parts is encoded"] if len(header.parts) > 1 else []
    return _assembled(planes, header.parts[0].header, name, notes)


def _assembled(planes: dict[str, Any], header: dict[str, Any], name: str, notes: list[str]) -> Deep:
    if {"RY", "BY"} & set(planes):
        raise Unsupported(f"{name}: EXR pictures of luminance and chroma are not supported; convert it to RGB first")
    layout = next((names for names in _LAYOUTS if set(names) <= set(planes)), tuple(sorted(planes)))
    low, high = header["dataWindow"]
    shape = (int(high[1] - low[1]) + 1, int(high[0] - low[0]) + 1)
    for key in layout:
        if planes[key].shape != shape:
            raise Unsupported(f"{name}: channel {key} is subsampled, which is not supported")
        if planes[key].dtype.kind != "f":
            raise InputError(f"{name}: expected float samples in channel {key}, found {planes[key].dtype}")
    if not 1 <= len(layout) <= 64:
        raise InputError(f"{name}: expected 1 to 64 channels, found {len(layout)}")
    left = sorted(set(planes) - set(layout))
    if left:
        notes.append(f"{name}: only {', '.join(layout)} are encoded, not {', '.join(left)}")
    values = np.stack([planes[key].astype(np.float32) for key in layout], axis=-1)
    alpha = layout in _LAYOUTS and layout[-1] == "A"
    if alpha and np.isfinite(values).all():  # the loader says where they are not
        values = unpremultiplied(values, 1)
    sections = {}
    density = float(header.get("xDensity", 0))
    if density > 0:
        x = density / METRES_PER_INCH
        sections = phys_section(x, x * float(header.get("pixelAspectRatio", 1)))
    transfer = _transfer(values[..., : len(layout) - alpha]) if layout in _LAYOUTS else Transfer.LINEAR
    return Deep(values, 1, alpha, None, 32, 1, sections, notes, transfer)


def _transfer(light: np.ndarray) -> Transfer:
    """PQ where it holds all values, otherwise log.

    On three crops of Kodak images with highlights expanded, at 0.5 bpp, PQ gave 34.71, 36.95, 40.79 dB against
    34.26, 36.76, 40.32 dB of log on PQ's own scale, and 38.70, 40.60, 44.29 against 38.38, 40.45, 43.89 dB on log's.
    """
    low, high = linear_range(Transfer.PQ)
    return Transfer.PQ if low <= light.min(initial=0) and light.max(initial=0) <= high else Transfer.LOG


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's own messages on damaged files off stdout, which may carry data, and off stderr."""
    with _STDERR, contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        with contextlib.suppress(OSError):  # no stderr at all
            sink = stack.enter_context(tempfile.TemporaryFile())
            kept = os.dup(2)
            stack.callback(os.close, kept)
            os.dup2(sink.fileno(), 2)
            stack.callback(os.dup2, kept, 2)
        yield
