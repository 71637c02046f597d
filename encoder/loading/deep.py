"""Reads pictures with more than 8 bits per channel where Pillow would silently reduce them to 8, or misread them.

16-bit PNG with several channels by imagecodecs and TIFF by tifffile (both optional, extra ``images``; without them
Pillow's 8 bits are used, with a warning, and what it would misread is refused), PGM/PPM and NPY by hand, EXR in exr.py.
16-bit JPEG 2000 and 10-bit AVIF are left to Pillow, as 8 bits, with a warning.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import math
import os
import re
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from igs.encoder.loading.metadata import upright_xmp
from igs.format import Colour, Transfer
from igs.format.errors import InputError, Unsupported

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# At the peak of loading, per pixel and channel: 7.0 to 8.4 measured (the decoder's copy, the array, its float32).
LOAD_BYTES = 9
EXTRA = 'pip install "igs-codec[images]"'
# PhotometricInterpretation of a TIFF: what its channels are (TIFF 6.0, and tags registered since).
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK = 0, 1, 2, 3, 5
_YCBCR = 6
# Compressions whose decoders give RGB of YCbCr: JPEG, JPEG 2000, JPEG XR, WebP, JPEG XL, by their registered numbers.
_TURNS_TO_RGB = {6, 7, 22610, 34712, 34927, 34934, 50001, 50002, 52546}
_NOT_READ = {
    4: "a transparency mask",
    _YCBCR: "YCbCr",
    8: "CIELAB",
    9: "ICCLab",
    10: "ITULab",
    32803: "a colour filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
# BitsPerSample and SampleFormat (1 unsigned, 2 signed, 3 float) of grey that Pillow's modes I;16, F and I hold as it
# is; signed values below 0 are refused afterwards.
_WHOLE_GREY = {(16, 1), (32, 3), (16, 2), (32, 2)}


@dataclasses.dataclass(frozen=True)
class SizeLimits:
    """Pixels, longer side and bytes that loading may take; checked before anything of that size is allocated."""

    size: int
    dimension: int
    memory: float = math.inf

    def check(self, width: int, height: int, name: str, channels: int = 4) -> None:
        """Raise InputError for a picture of so many pixels and channels that is empty or above a limit.

        name: of the picture, for the message, which names the option of the command line that raises the limit.
        """
        if width < 1 or height < 1:
            raise InputError(f"{name}: expected at least one pixel, found {width}×{height}")
        if width * height > self.size:
            raise InputError(f"{name}: {width}×{height} is above the limit of {self.size} pixels (--size-limit)")
        if max(width, height) > self.dimension:
            raise InputError(
                f"{name}: {width}×{height} is above the limit of {self.dimension} pixels a side (--dimension-limit)"
            )
        needed = width * height * channels * LOAD_BYTES
        if needed > self.memory:
            raise InputError(
                f"{name}: {width}×{height} would take {needed} bytes, above the limit of {self.memory} (--memory-limit)"
            )


@dataclasses.dataclass(frozen=True)
class Deep:
    """values [H, W, C] of which ``scale`` means 1. orientation: 1–8, or 0: look into the EXIF data.

    transfer: how the values are to be stored (spec §3.4).
    """

    values: NDArray[Any]
    scale: float
    alpha: bool
    colour: Colour | None
    bit_depth: int
    orientation: int = 0
    sections: dict[str, bytes] = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)
    transfer: Transfer = Transfer.SRGB


def read_whole(file: BinaryIO, start: bytes, limits: SizeLimits, name: str) -> Deep | None:
    """Formats that Pillow has no part in: EXR, NPY, PGM/PPM with more than 8 bits. None for others; rewinds."""
    if start.startswith(b"\x76\x2f\x31\x01"):
        from igs.encoder.loading.exr import read_exr

        return read_exr(file, limits, name)
    if start.startswith(b"\x93NUMPY"):
        return _read_npy(file, limits, name)
    if start[:2] in (b"P5", b"P6"):
        return _read_pnm(file, limits, name)
    return None


def is_deep(image: Image.Image, file: BinaryIO | None) -> bool:
    """Whether Pillow loses bits or channels of a PNG or TIFF that it has opened, or does not say what they mean.

    file: it was opened from; without it a PNG counts as not deep.
    """
    if image.format == "PNG":
        head = b"" if file is None else _peek(file, 26)
        # 16-bit grey is whole in Pillow's mode I;16
        return head[12:16] == b"IHDR" and head[24] == 16 and head[25] in (2, 4, 6)
    if image.format != "TIFF" or not hasattr(image, "tag_v2"):
        return False
    bits, formats = _tiff_numbers(image, 258), _tiff_numbers(image, 339)
    if len(bits) > len(image.getbands()):
        return True  # channels of no stated meaning are dropped
    if max(bits) <= 8:
        return 2 in formats  # read as if they had no sign
    # Grey of other depths is not scaled by them, and never inverted where white is zero.
    return not (
        image.tag_v2.get(262, _BLACK_IS_ZERO) == _BLACK_IS_ZERO
        and len(bits) == 1
        and (bits[0], formats[0]) in _WHOLE_GREY
    )


def _tiff_numbers(image: Image.Image, tag: int) -> tuple[int, ...]:
    """BitsPerSample or SampleFormat, one per channel; both are 1 where a file states none."""
    found = image.tag_v2.get(tag, 1)  # type: ignore[attr-defined]
    return (found if isinstance(found, tuple) else (found,)) or (1,)


def read_if_deep(image: Image.Image, file: BinaryIO, limits: SizeLimits, name: str, notes: list[str]) -> Deep | None:
    """The pixels of an image that Pillow has opened, if it would lose some of what they say (:func:`is_deep`).

    None if not, or if no library helps and Pillow's pixels are right but for their depth, with a note. Raises
    Unsupported where they are not. Of a TIFF with several pages the one that ``image`` is at.
    """
    if not is_deep(image, file):
        bits = _stated_bits(image, file)
        if bits > 8 and not image.mode.startswith("I"):  # 16-bit grey is whole
            notes.append(f"{name}: {bits} bits per channel are reduced to 8, which is all that Pillow reads of them")
        return None
    if image.format == "TIFF":
        right = len(_tiff_numbers(image, 258)) > 1
        return read_tiff(file, limits, name, notes if right else None, page=image.tell())
    imagecodecs = _optional("imagecodecs", name, notes)
    if imagecodecs is None:
        return None
    values = np.asarray(imagecodecs.png_decode(_pixels_only(_whole(file))))
    values = values[..., None] if values.ndim == 2 else values
    # libpng has turned a tRNS colour into an alpha channel
    return Deep(values, 65535, values.shape[2] in (2, 4), None, 16)


def _stated_bits(image: Image.Image, file: BinaryIO) -> int:
    """Bits of the first channel that the head of an AVIF or JPEG 2000 file states; 8 where they are not found."""
    mark = {"AVIF": b"av1C", "JPEG2000": b"\xff\x4f\xff\x51"}.get(image.format or "")
    if mark is None:
        return 8
    head = _peek(file, 1 << 16)
    at = head.find(mark)
    if image.format == "AVIF":  # flags in the third byte of AV1CodecConfigurationRecord
        flags = head[at + 6] if 0 <= at < len(head) - 6 else 0
        return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    return (head[at + 42] & 0x7F) + 1 if 0 <= at < len(head) - 42 else 8  # Ssiz of the marker segment SIZ


def read_tiff(
    file: BinaryIO, limits: SizeLimits, name: str, notes: list[str] | None = None, page: int = 0
) -> Deep | None:
    """A page of a TIFF, by tifffile: grey, RGB, palette (as RGB) or CMYK, of unsigned or float samples.

    Grey whose zero is white is inverted, also of float samples, whose black is then 1. Raises InputError for other
    pixels. Where tifffile is missing: with ``notes`` (Pillow can show the file, at 8 bits) a note and None, otherwise
    Unsupported.
    """
    tifffile = _optional("tifffile", name, notes)
    if tifffile is None:
        if notes is None:
            raise Unsupported(f"{name}: this kind of TIFF needs tifffile: {EXTRA}")
        return None
    log = logging.getLogger("tifffile")
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # else its remarks on damaged files go to stderr
    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            shown = tiff.pages[page]
            width, height, channels = int(shown.imagewidth), int(shown.imagelength), int(shown.samplesperpixel)
            limits.check(width, height, name, channels)
            if shown.imagedepth != 1 or not 1 <= channels <= 64:
                raise InputError(f"{name}: expected one picture of 1 to 64 channels, found {list(shown.shape)}")
            extra = tuple(shown.extrasamples or ())
            photometric = int(shown.photometric)
            if 262 not in shown.tags:  # which every file should have; as libtiff guesses
                photometric = _RGB if channels - len(extra) >= 3 else _BLACK_IS_ZERO
            elif photometric == _YCBCR and int(shown.compression) in _TURNS_TO_RGB:
                photometric = _RGB
            if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK):
                found = _NOT_READ.get(photometric, f"photometric interpretation {photometric}")
                raise InputError(f"{name}: expected a TIFF of grey, RGB, palette or CMYK pixels, found {found}")
            if not isinstance(shown.bitspersample, int):
                found = ", ".join(str(bits) for bits in shown.bitspersample)
                raise InputError(f"{name}: expected channels of one depth, found {found} bits")
            values = shown.asarray()
            separate = shown.planarconfig == 2 and channels > 1
            bits, kind = shown.bitspersample, values.dtype.kind
            colormap = shown.colormap if photometric == _PALETTE else None
            sections = {}
            for section, code in (("iccp", 34675), ("xmpd", 700)):
                tag = shown.tags.get(code)
                if tag is not None and isinstance(tag.value, bytes) and tag.value:
                    sections[section] = upright_xmp(tag.value) if section == "xmpd" else tag.value
            tag = shown.tags.get(274)
            orientation = int(tag.value) if tag is not None and int(tag.value) in range(1, 9) else 1
    except (InputError, MemoryError):
        raise
    except Exception as error:  # tifffile and its codecs raise many types on damaged files
        raise InputError(f"{name}: can't be read as a TIFF: {error or type(error).__name__}") from error
    if values.size != height * width * channels:  # tifffile returns nothing where the file states no data
        raise InputError(f"{name}: expected {width}×{height} pixels of {channels} channels, found {list(values.shape)}")
    values = np.moveaxis(values, 0, -1) if separate else values
    values = values.reshape(height, width, channels)
    if kind not in "uf":
        raise InputError(f"{name}: expected unsigned or float samples, found {values.dtype}")
    depth = 32 if kind == "f" or bits > 16 else 8 if bits <= 8 else 16
    if kind == "u" and bits > 32:  # float64 can't hold the scale exactly, while in the end 24 bits are kept
        values, bits = (values >> (bits - 32)).astype(np.uint32), 32
    scale = 1 if kind == "f" else 2**bits - 1
    alpha = bool(extra) and int(extra[-1]) in (1, 2) and channels in (2, 4, 5)
    if photometric == _PALETTE:
        values, scale = _coloured(values, colormap, scale, name)
    if alpha and int(extra[-1]) == 1:
        values = unpremultiplied(values, scale)
    if photometric == _WHITE_IS_ZERO:
        colours = slice(0, channels - alpha)
        values = values.copy()
        values[..., colours] = scale - values[..., colours]
    colour = Colour.CMYK if photometric == _CMYK and channels - alpha == 4 else None
    return Deep(values, scale, alpha, colour, depth, orientation, sections)


def _coloured(
    values: NDArray[Any], colormap: NDArray[Any] | None, top: int, name: str
) -> tuple[NDArray[np.uint16], int]:
    """Values [H, W, 1 or more] with three colours in place of the first channel, a place in the palette; their scale.

    colormap: [3, top + 1], 16 bits. Of a palette for 8 bits or fewer only the upper 8 count, as in Pillow, since
    writers don't agree on the lower ones.
    """
    if not isinstance(colormap, np.ndarray) or colormap.shape != (3, top + 1) or values.dtype.kind != "u":
        found = "none" if colormap is None else f"{list(np.shape(colormap))} for {values.dtype}"
        raise InputError(f"{name}: expected a palette of 3 × {top + 1} values, found {found}")
    scale = 255 if top <= 255 else 65535
    palette = colormap.T >> 8 if scale == 255 else colormap.T
    others = np.rint(values[..., 1:] * (scale / top))
    return np.concatenate([palette[values[..., 0]], others], axis=-1, dtype=np.uint16, casting="unsafe"), scale


def _pixels_only(png: bytes) -> bytes:
    """A PNG without its other chunks: libpng prints warnings about damaged profiles straight to stderr."""
    parts, at = [png[:8]], 8
    while at + 12 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            parts.append(png[at:end])
        at = end
    return b"".join(parts)


def grey_bits(image: Image.Image, file: BinaryIO | None) -> int:
    """Bits per sample that a PNG states: its tRNS value is in that range, while Pillow stretches pixels to 8 bits."""
    if file is None or image.format != "PNG":
        return 8
    return {2: 2, 4: 4}.get(_peek(file, 25)[24], 8)


def unpremultiplied(values: NDArray[Any], scale: float) -> NDArray[Any]:
    """Values [H, W, C] with the colours divided by the last channel, of which ``scale`` is 1; 0 where that is 0.

    Integers, of at most 32 bits, are rounded and end at the scale.
    """
    straight, alpha = values.copy(), values[..., -1]
    for c in range(values.shape[-1] - 1):  # one by one: a picture of float64 would be the peak of loading
        plane = np.divide(values[..., c], alpha, out=np.zeros(alpha.shape), where=alpha > 0, dtype=np.float64)
        if values.dtype.kind == "u":
            plane *= scale
            np.minimum(np.rint(plane, out=plane), scale, out=plane)
        straight[..., c] = plane
    return straight


def _read_pnm(file: BinaryIO, limits: SizeLimits, name: str) -> Deep | None:
    """Binary PGM/PPM with a maximum above 255; others are Pillow's."""
    head = _peek(file, 1024)
    blank = rb"(?:\s|#[^\n]*\n)+"
    found = re.match(rb"P([56])" + blank + rb"(\d+)" + blank + rb"(\d+)" + blank + rb"(\d+)\s", head)
    if found is None or len(max(found.groups(), key=len)) > 9:
        return None
    kind, width, height, maximum = (int(group) for group in found.groups())
    if not 255 < maximum < 65536:
        return None
    limits.check(width, height, name)
    channels = 3 if kind == 6 else 1
    needed = width * height * channels * 2
    file.seek(found.end())
    data = file.read(needed)
    if len(data) < needed:
        raise InputError(f"{name}: truncated: expected {needed} bytes of pixels, found {len(data)}")
    values = np.frombuffer(data, ">u2").reshape(height, width, channels)
    return Deep(np.minimum(values, maximum), maximum, False, None, 16)


def _read_npy(file: BinaryIO, limits: SizeLimits, name: str) -> Deep:
    """An array as igs-decode writes it: [H, W] or [H, W, C], uint8, uint16 or float."""
    lib = np.lib.format
    try:
        version = lib.read_magic(file)
        read_header = lib.read_array_header_1_0 if version == (1, 0) else lib.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if len(shape) not in (2, 3) or dtype.kind not in "uf" or dtype.itemsize > (2 if dtype.kind == "u" else 8):
            raise InputError(
                f"{name}: expected [H, W] or [H, W, C] of uint8, uint16 or float, found {shape} of {dtype}"
            )
        height, width, channels = (*shape, 1)[:3]
        limits.check(width, height, name, channels)
        if not 1 <= channels <= 64:
            raise InputError(f"{name}: expected 1 to 64 channels, found {channels}")
        needed = height * width * channels * dtype.itemsize
        at = file.tell()
        present = file.seek(0, os.SEEK_END) - at
        if present < needed:
            raise InputError(f"{name}: truncated: expected {needed} bytes of values, found {present}")
        file.seek(at)
        values = np.frombuffer(file.read(needed), dtype).reshape(shape, order="F" if fortran else "C")
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the header is Python text: its parser raises SyntaxError, TokenError, …
        raise InputError(f"{name}: can't be read as an array: {error}") from error
    depth = 32 if dtype.kind == "f" else 8 * dtype.itemsize
    scale = 1 if dtype.kind == "f" else 2**depth - 1
    return Deep(values.reshape(height, width, channels), scale, channels in (2, 4), None, depth)


def _optional(module: str, name: str, notes: list[str] | None) -> Any:
    """The module, or None after noting what its absence costs."""
    try:
        return importlib.import_module(module)
    except ImportError:
        if notes is not None:
            loss = "reduced to 8 bits per channel and the channels that Pillow knows"
            notes.append(f"{name}: {loss}, since {module} is not installed: {EXTRA}")
        return None


def _peek(file: BinaryIO, count: int) -> bytes:
    at = file.tell()
    file.seek(0)
    head = file.read(count)
    file.seek(at)
    return head


def _whole(file: BinaryIO) -> bytes:
    at = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(at)
    return data
