"""Writes decoded pictures as PNG, PNM, TIFF, EXR, NPY, JPEG, WebP or AVIF, and says which of them can hold what.

8-bit pictures go through Pillow, 16-bit PNG through :mod:`igs.cli.output_png`, what Pillow has no TIFF mode for through
tifffile, and EXR by :mod:`igs.cli.output_exr` (extra ``images``). Sections ``iccp``, ``exif``, ``xmpd`` and ``phys``
are written back where the format has a place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import os
import struct
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, BinaryIO

from igs.format.errors import InputError, Unsupported, UsageError

_MANY = "channels without a common colour model"
# What a picture's channels are, as formats see it (igs.format.groups.layout_of) → how messages say it.
LAYOUTS = {
    "L": "grey",
    "LA": "grey with alpha",
    "RGB": "RGB",
    "RGBA": "RGB with alpha",
    "CMYK": "CMYK",
    "N": _MANY,
}


@dataclasses.dataclass(frozen=True)
class Format:
    """What an output format holds. side: the longest side, pixels; keeps: the section types that have a place in it."""

    name: str
    suffixes: tuple[str, ...]
    depths: tuple[int, ...]
    layouts: tuple[str, ...]
    keeps: tuple[str, ...] = ()
    side: int = 2**31 - 1


_ALL = tuple(LAYOUTS)
_COMMON = ("L", "LA", "RGB", "RGBA")
_META = ("iccp", "exif", "xmpd", "phys")
FORMATS = {
    format_.name: format_
    for format_ in (
        Format("png", (".png",), (8, 16), _COMMON, _META),
        Format("tiff", (".tiff", ".tif"), (8, 16, 32), _ALL, _META),
        Format("exr", (".exr",), (32,), ("L", "LA", "RGB", "RGBA", "N"), ("phys",)),
        Format("npy", (".npy",), (8, 16, 32), _ALL),
        Format("ppm", (".ppm",), (8, 16), ("RGB",)),
        Format("pgm", (".pgm",), (8, 16), ("L",)),
        Format("pnm", (".pnm",), (8, 16), ("L", "RGB")),
        Format("jpeg", (".jpg", ".jpeg"), (8,), ("L", "RGB", "CMYK"), _META, 65500),
        Format("webp", (".webp",), (8,), _COMMON, _META, 16383),
        Format("avif", (".avif",), (8,), _COMMON, _META, 65536),
    )
}
PNG_LEVEL = 3  # of a decoded Kodak picture: 13 % larger than level 6, 2.7 times as fast
_PILLOW_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"compress_level": PNG_LEVEL},
    "jpeg": {"quality": 95, "subsampling": 0},  # adds nothing visible to a picture that was lossy before
    "webp": {"lossless": True},
    "avif": {"quality": 90},
    "tiff": {"compression": "tiff_adobe_deflate"},
}


def format_of(path: str, name: str | None, formats: Mapping[str, Format] = FORMATS, also: str = "--format") -> Format:
    """The format named, else that of the path's suffix, PNG for stdout. Raises UsageError for an unknown suffix.

    also: what the message says besides a suffix.
    """
    if name is not None:
        return FORMATS[name]
    if path == "-":
        return FORMATS["png"]
    suffix = PurePath(path).suffix.lower()
    for candidate in formats.values():
        if suffix in candidate.suffixes:
            return candidate
    known = " ".join(s for candidate in formats.values() for s in candidate.suffixes)
    hint = f", or {also}" if also else ""
    raise UsageError(f"{path}: expected a suffix of {known}{hint}, found {suffix or 'none'}")


def choose_depth(format_: Format, source_depth: int, wanted: int | None) -> int:
    """Bits per channel to write: those wanted (Unsupported if impossible), else the source's or the most below them."""
    if wanted is not None:
        if wanted not in format_.depths:
            raise Unsupported(f"{format_.name} can't hold {wanted} bits per channel; {_others(depth=wanted)} can")
        return wanted
    return max((depth for depth in format_.depths if depth <= source_depth), default=format_.depths[0])


def check_format(format_: Format, layout: str, channels: int, width: int, height: int, depth: int = 0) -> None:
    """Raise Unsupported, naming formats that can, if the picture doesn't fit. depth: bits that these hold."""
    others = _others(layout, depth, max(width, height))
    if layout not in format_.layouts:
        what = f"{channels} {LAYOUTS[layout]}" if layout == "N" else LAYOUTS[layout]
        raise Unsupported(f"{format_.name} can't hold {what}; {others} can")
    if max(width, height) > format_.side:
        can = f"; {others} can" if others else ""
        raise Unsupported(f"{format_.name} can't hold {width}×{height}: at most {format_.side} a side{can}")


def _others(layout: str = "", depth: int = 0, side: int = 0) -> str:
    """The formats that hold so much, in words."""
    fitting = [f for f in FORMATS.values() if f.side >= side]
    names = [f.name for f in fitting if (not layout or layout in f.layouts) and (not depth or depth in f.depths)]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def to_host(array: Any) -> Any:
    """An array of a decoder on the CPU or on a GPU as a NumPy array."""
    return array.copy_to_host() if hasattr(array, "copy_to_host") else array


def write_image(file: BinaryIO, pixels: Any, format_: Format, layout: str, sections: Mapping[str, bytes]) -> list[str]:
    """Write pixels, uint8, uint16 or float32 [H, W, C], to a seekable file; returns remarks on metadata left out.

    ``check_format`` and ``choose_depth`` must have passed. Raises Unsupported for a missing library, InputError if
    writing fails.
    """
    kept = {key: value for key, value in sections.items() if key in format_.keeps}
    names = {"iccp": "the ICC profile", "exif": "EXIF data", "xmpd": "the XMP packet", "phys": "the resolution"}
    notes = [f"{format_.name} has no place for {names[key]}" for key in _META if key in sections and key not in kept]
    if format_.name == "npy":
        import numpy as np

        np.lib.format.write_array(file, pixels, allow_pickle=False)
    elif format_.name in ("ppm", "pgm", "pnm"):
        _write_pnm(file, pixels)
    elif format_.name == "png" and pixels.itemsize == 2:
        from igs.cli.output_png import write_png16

        write_png16(file, pixels, kept, PNG_LEVEL)
    elif format_.name == "exr":
        from igs.cli.output_exr import write_exr

        write_exr(file, pixels, layout, dots_per_inch(sections))
    elif format_.name == "tiff" and not _pillow_tiff(pixels, layout):
        notes += _write_tiff(file, pixels, layout, kept)
    else:
        notes += _write_pillow(file, pixels, format_, layout, kept)
    return notes


def dots_per_inch(sections: Mapping[str, bytes]) -> tuple[float, float] | None:
    """The resolution that formats are told, to a tenth: ``phys`` is off by up to 0.013; None if there is none."""
    from igs.format.sections import resolution_per_inch

    found = resolution_per_inch(sections)
    if found is None:
        return None
    x, y = (round(v, 1) for v in found)
    return (x, y) if min(x, y) >= 1 else None


def _write_pnm(file: BinaryIO, pixels: Any) -> None:
    height, width, channels = pixels.shape
    maximum = 65535 if pixels.itemsize == 2 else 255
    file.write(f"P{6 if channels == 3 else 5}\n{width} {height}\n{maximum}\n".encode())
    for row in pixels:  # row by row: no second copy of the picture
        file.write(row.astype(">u2" if maximum > 255 else "u1").tobytes())


def _pillow_tiff(pixels: Any, layout: str) -> bool:
    """Whether Pillow has a mode for these pixels in a TIFF."""
    return layout != "N" and (pixels.itemsize == 1 or layout == "L")


def _write_pillow(
    file: BinaryIO, pixels: Any, format_: Format, layout: str, sections: Mapping[str, bytes]
) -> list[str]:
    from PIL import Image, features

    if format_.name in ("webp", "avif") and not features.check(format_.name):
        raise Unsupported(f"this installation of Pillow has no {format_.name}; {_others(layout=layout)} work")
    height, width, channels = pixels.shape
    if layout == "CMYK":
        image = Image.frombytes("CMYK", (width, height), pixels.tobytes())  # from an array 4 channels mean RGBA
    else:
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    options = dict(_PILLOW_OPTIONS.get(format_.name, {}))
    density = dots_per_inch(sections)
    if density is not None and format_.name == "png":
        from igs.format.sections import resolution_per_inch

        options["dpi"] = resolution_per_inch(sections)  # which becomes pixels per metre again
    elif density is not None:
        if format_.name in ("webp", "avif"):  # whose only place for it is EXIF
            from igs.format.exif import with_resolution

            sections = dict(sections) | {"exif": with_resolution(sections.get("exif", b""), *density)}
        else:
            options["dpi"] = density
    if "iccp" in sections:
        options["icc_profile"] = sections["iccp"]
    if "exif" in sections and format_.name != "tiff":
        options["exif"] = b"Exif\0\0" + sections["exif"]
    if format_.name == "tiff":
        options["exif"] = _tiff_directory(sections)
        if 0x8769 in options["exif"] or 0x8825 in options["exif"]:
            options["compression"] = "raw"  # Pillow hands compressed TIFFs to libtiff, without their inner directories
    elif "xmpd" in sections:
        if format_.name == "png":
            from PIL.PngImagePlugin import PngInfo

            options["pnginfo"] = PngInfo()
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", sections["xmpd"].decode("utf-8", "replace"))
        else:
            options["xmp"] = sections["xmpd"]
    metadata = [key for key in ("icc_profile", "exif", "xmp", "pnginfo", "dpi") if key in options]
    notes = []
    # To memory: on a file Pillow's encoders write to the descriptor by themselves, and take a part for the whole.
    memory = io.BytesIO()
    try:
        image.save(memory, format_.name, **options)
    except OSError:
        raise
    except Exception as error:  # damaged or oversized metadata (a JPEG holds 64 KB of EXIF) raises many types
        if not metadata:
            raise InputError(f"can't be written as {format_.name}: {error}") from error
        memory = io.BytesIO()
        image.save(memory, format_.name, **{key: value for key, value in options.items() if key not in metadata})
        notes = [f"the metadata could not be written as {format_.name} and was left out ({error})"]
    file.write(memory.getbuffer())
    return notes


def _tiff_directory(sections: Mapping[str, bytes]) -> Any:
    """EXIF and XMP as tags for TIFF writers: what describes, nothing that could contradict the layout."""
    from PIL import Image

    kept = Image.Exif()
    if "exif" in sections:
        from igs.format.exif import copy_descriptive

        with contextlib.suppress(Exception):  # a damaged block: what could be read of it is kept
            source = Image.Exif()
            source.load(sections["exif"])
            copy_descriptive(kept, source, source.get_ifd)
    if "xmpd" in sections:
        kept[700] = sections["xmpd"]
    return kept


def _write_tiff(file: BinaryIO, pixels: Any, layout: str, sections: Mapping[str, bytes]) -> list[str]:
    try:
        tifffile = importlib.import_module("tifffile")
    except ImportError as error:
        raise Unsupported(
            f'TIFF with {pixels.shape[2]} channels of {pixels.dtype} needs tifffile: pip install "igs-codec[images]"; '
            "npy works without"
        ) from error
    photometric = {"RGB": "rgb", "RGBA": "rgb", "CMYK": "separated"}.get(layout, "minisblack")
    extra = pixels.shape[2] - {"rgb": 3, "separated": 4, "minisblack": 1}[photometric]
    kind = "unassalpha" if layout in ("LA", "RGBA") else "unspecified"
    tags = _tiff_directory(sections)
    words: dict[int, bytes] = {tag: v.encode("utf-8") for tag, v in tags.items() if isinstance(v, str)}
    tifffile.imwrite(
        file,
        pixels[..., 0] if pixels.shape[2] == 1 else pixels,
        photometric=photometric,
        planarconfig="contig",
        extrasamples=[kind] * extra or None,
        compression="zlib",
        iccprofile=sections.get("iccp"),
        extratags=[
            *((tag, 2, 0, text, True) for tag, text in words.items()),
            *((700, 1, len(packet), packet, True) for packet in [tags.get(700)] if packet),
        ],
        byteorder="<",
        resolution=dots_per_inch(sections),
        resolutionunit="INCH" if "phys" in sections else None,
        metadata=None,
        software=False,
    )
    _append_directories(file, tags)
    return []


def _append_directories(file: BinaryIO, tags: Any) -> None:
    """Write the EXIF and GPS directories behind a TIFF: tifffile has no place for them."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    from igs.format.exif import SUB_DIRECTORIES, add_entries

    entries = {}
    for tag in SUB_DIRECTORIES:
        if tag in tags:
            end = file.seek(0, os.SEEK_END)
            file.write(bytes(end % 2))
            written = ImageFileDirectory_v2(b"II*\0\x08\0\0\0", group=tag)
            written.update(tags.get_ifd(tag))
            file.write(written.tobytes(end + end % 2))
            entries[tag] = struct.pack("<HHII", tag, 4, 1, end + end % 2)  # LONG
    if entries:
        add_entries(file, entries)
