"""Reads a source picture — file, stream, Pillow image or array — into floating-point picture values and channel groups.

First step of the encoder. Pillow decodes; :mod:`igs.encoder.loading.deep` takes what Pillow would reduce to 8 bits;
:mod:`igs.encoder.loading.metadata` collects the ICC, EXIF and XMP sections. The EXIF orientation is applied here.
Nothing is resampled or colour-managed: values are the file's own, and a profile travels along as a section. Without
torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from igs.encoder.loading import deep as load_deep
from igs.encoder.loading.metadata import oriented, read_metadata, read_tiff_metadata
from igs.encoder.loading.opened import file_of, shows_its_file
from igs.encoder.loading.source import SourceImage, checked_groups, default_groups, finished, from_array
from igs.format import Colour, Group
from igs.format.errors import InputError, Unsupported, UsageError
from igs.format.fields import MAGIC
from igs.format.limits import Limits

# Pixels, and pixels of the longer side: a reader's defaults (spec §12), so that what is written can be read.
SIZE_LIMIT, DIMENSION_LIMIT = int(Limits.pixels), int(Limits.side)
_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")
_PILLOW_LIMIT = threading.Lock()


def load_image(
    source: Any,
    *,
    size_limit: int = SIZE_LIMIT,
    dimension_limit: int = DIMENSION_LIMIT,
    memory_limit: float = math.inf,
    groups: tuple[Group, ...] | None = None,
    name: str | None = None,
    resample: str | None = None,
) -> SourceImage:
    """Read a picture, or the maps of a texture stack (:mod:`igs.encoder.loading.stack`).

    source: a path, bytes, a binary file object that can seek, a ``PIL.Image``, a NumPy array or a ``SourceImage``; or a
    mapping of names to any of these, or the path of a directory of maps. resample: for maps of different size, and
    nothing else. groups: of a single picture; those of maps follow from their names.
    Arrays are uint8, uint16 or float (finite, nominally in [0, 1]), [H, W] or [H, W, C] with 1–64 channels; 2 and 4
    channels mean that the last is alpha unless ``groups`` says otherwise. Of an animation the first frame is taken, of
    a Pillow image the one that it is at, with a warning. A Pillow image whose file has more bits than Pillow keeps is
    read from that file, if it is still there and the pixels have not been changed, otherwise as it is, with a warning
    where that can be told (not of a PNG whose file is gone).
    Limits: pixels, pixels a side, bytes that loading may take (about 9 per pixel and channel). Raises UsageError for a
    bad array or an argument without effect, InputError for a file that can't be read or is above a limit, Unsupported
    where a library is missing.
    """
    if isinstance(source, Mapping) or is_folder(source):
        if groups is not None:
            raise UsageError("groups: expected none beside several maps, whose names say what they are")
        return _from_maps(source, resample, size_limit, dimension_limit, memory_limit, name)
    if resample is not None:
        raise UsageError(f"resample: expected several maps beside it, found one picture and {resample!r}")
    limits = load_deep.SizeLimits(size_limit, dimension_limit, memory_limit)
    if isinstance(source, SourceImage):
        if limits != load_deep.SizeLimits(SIZE_LIMIT, DIMENSION_LIMIT):  # it was let in by limits of its own
            limits.check(source.width, source.height, name or source.name, source.channels)
        loaded = source if name is None else dataclasses.replace(source, name=name)
    elif isinstance(source, np.ndarray):
        return from_array(source, limits, groups, name or "array")
    elif isinstance(source, Image.Image):
        loaded = _from_object(source, limits, name or os.fsdecode(getattr(source, "filename", None) or "") or "image")
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            with _opened(path) as file:
                loaded = _from_file(file, limits, name or str(path))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
    elif isinstance(source, (bytes, bytearray, memoryview)):
        loaded = _from_file(io.BytesIO(source), limits, name or "image")
    elif hasattr(source, "read") and hasattr(source, "seek"):
        label = getattr(source, "name", None)
        loaded = _from_file(source, limits, name or (label if isinstance(label, str) else "image"))
    else:
        raise UsageError(f"expected a path, bytes, a file, a PIL image or an array, found {type(source).__name__}")
    return loaded if groups is None else dataclasses.replace(loaded, groups=checked_groups(groups, loaded.channels))


def is_folder(source: Any) -> bool:
    """Whether a source is the path of a directory; what can't be a path at all is none."""
    try:
        return isinstance(source, (str, os.PathLike)) and Path(source).is_dir()
    except (OSError, ValueError):  # a name too long, or with characters that names don't have
        return False


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except ValueError as error:  # a null character, or half a surrogate pair
        raise InputError(f"{str(path)!r}: expected the name of a file, found one that none has: {error}") from None


def _from_maps(
    source: Any, resample: str | None, size_limit: int, dimension_limit: int, memory_limit: float, name: str | None
) -> SourceImage:
    from igs.encoder.loading import stack

    maps, notes = (source, []) if isinstance(source, Mapping) else stack.find_maps(Path(source))
    label = name or ("stack" if isinstance(source, Mapping) else str(source))
    limits: dict[str, Any] = {
        "size_limit": size_limit,
        "dimension_limit": dimension_limit,
        "memory_limit": memory_limit,
    }
    loaded = stack.load_stack(maps, resample=resample, name=label, **limits)
    return dataclasses.replace(loaded, warnings=[*notes, *loaded.warnings])


# -- files


def _from_file(file: BinaryIO, limits: load_deep.SizeLimits, name: str) -> SourceImage:
    try:
        file.seek(0)
        start = file.read(32)
        file.seek(0)
    except (OSError, ValueError) as error:  # a pipe, a closed file
        raise InputError(
            f"{name}: expected a file that can be read and can seek, found one that can't: {error}"
        ) from None
    if not isinstance(start, bytes):
        raise UsageError(f"{name}: expected a binary file, found one that gives {type(start).__name__}")
    if not start:
        raise InputError(f"{name}: the file is empty")
    if start.startswith(MAGIC):
        raise InputError(f"{name}: this is an .igs file already; igs-decode turns it into an image")
    if start.startswith(_POSTSCRIPT):  # a program, which Pillow would hand to Ghostscript
        raise InputError(f"{name}: PostScript is not supported; convert it to an image first")
    deep = load_deep.read_whole(file, start, limits, name)
    if deep is not None:
        return _from_deep(deep, {}, [], name)
    try:
        with _raised_pillow_limit(limits.size), warnings.catch_warnings():
            # Pillow's own bomb warning comes at 89 Mpx whatever limit its user chose; ours is checked right after.
            warnings.simplefilter("ignore")
            image = Image.open(file)
    except UnidentifiedImageError as error:
        if start[:4] in load_deep.TIFF_SIGNATURES:
            deep = load_deep.read_tiff(file, limits, name)
            if deep is not None:
                notes: list[str] = []
                sections = read_tiff_metadata(file, name, notes)
                turned = dataclasses.replace(deep, values=oriented(deep.values, deep.orientation))
                return _from_deep(turned, sections, notes, name)
        raise InputError(f"{name}: not an image in a known format, or damaged") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: above the limit of {limits.size} pixels (--size-limit)") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's parsers raise many types on damaged files
        raise InputError(f"{name}: can't be read as an image: {_reason(error)}") from error
    with image:
        return _from_pillow(image, file, limits, name)


@contextlib.contextmanager
def _raised_pillow_limit(size_limit: int) -> Iterator[None]:
    """Let Pillow open what our own limit allows: it refuses at twice a module-wide constant, and takes no argument."""
    with _PILLOW_LIMIT:
        before = Image.MAX_IMAGE_PIXELS
        if before is not None:
            Image.MAX_IMAGE_PIXELS = max(before, size_limit)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _from_deep(deep: load_deep.Deep, sections: Mapping[str, bytes], notes: list[str], name: str) -> SourceImage:
    groups = default_groups(
        deep.values.shape[2], deep.bit_depth, alpha=deep.alpha, colour=deep.colour, transfer=deep.transfer
    )
    merged = {**deep.sections, **sections}
    return finished(deep.values, deep.scale, groups, merged, [*notes, *deep.warnings], deep.bit_depth, name)


def _from_object(image: Image.Image, limits: load_deep.SizeLimits, name: str) -> SourceImage:
    """A Pillow image that the caller holds, at the frame that it is at."""
    limits.check(image.width, image.height, name)
    notes: list[str] = []
    with file_of(image) as file:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                image.load()  # first, since reading the file moves a stream that both share
            notes += [f"{name}: {w.message}" for w in caught]
        except MemoryError:
            raise
        except Exception as error:  # as for files
            raise InputError(f"{name}: can't be read as an image: {_reason(error)}") from error
        again = None if file is None else _reopened(file, limits)
        frames = 1
        if again is not None:
            with contextlib.suppress(Exception), warnings.catch_warnings():  # damaged behind the frame that is wanted
                warnings.simplefilter("ignore")
                frames = getattr(again, "n_frames", 1)  # of the image itself it would undo what was drawn on it
        if frames > 1:
            notes.append(f"{name}: only frame {image.tell() + 1} of {frames} is encoded")
        if load_deep.is_deep(image, file):
            # Of a PNG's frames only the first can be read with all its bits.
            first = image.format != "PNG" or image.tell() == 0
            if not (first and again is not None and shows_its_file(image, again)):
                reason = "the image was changed after it was opened, or its file is gone"
                reason = reason if first else "it is not at its first frame"
                notes.append(f"{name}: Pillow's pixels are taken, which are not all that the file has: {reason}")
                file = None
        again = None  # with its pixels, before the file's own are read
        return _from_pillow(image, file, limits, name, notes)


def _reopened(file: BinaryIO, limits: load_deep.SizeLimits) -> Image.Image | None:
    try:
        with _raised_pillow_limit(limits.size), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(file)
    except MemoryError:
        raise
    except Exception:  # it is another file by now
        return None


def _from_pillow(
    image: Image.Image, file: BinaryIO | None, limits: load_deep.SizeLimits, name: str, notes: list[str] | None = None
) -> SourceImage:
    """An image that Pillow has opened from ``file``: its first frame, or with ``notes`` (so far) the one it is at."""
    limits.check(image.width, image.height, name)
    fresh = notes is None
    notes = [] if notes is None else notes
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frames = getattr(image, "n_frames", 1) if fresh else 1
            if frames > 1:
                image.seek(0)
                notes.append(f"{name}: only the first of {frames} frames is encoded")
            deep = None if file is None else load_deep.read_if_deep(image, file, limits, name, notes)
            if deep is None or image.format == "PNG":  # whose text and EXIF may stand behind the pixels
                image.load()
            metadata = read_metadata(image, name, notes)
            values, scale, alpha, colour = (
                (None, 0, False, None)
                if deep is not None
                else _pillow_values(image, name, load_deep.grey_bits(image, file))
            )
        notes += [f"{name}: {w.message}" for w in caught if not issubclass(w.category, Image.DecompressionBombWarning)]
    except (InputError, Unsupported, MemoryError):
        raise
    except Exception as error:  # as above
        raise InputError(f"{name}: can't be read as an image: {_reason(error)}") from error
    if deep is not None:
        turned = dataclasses.replace(deep, values=oriented(deep.values, deep.orientation or metadata.orientation))
        return _from_deep(turned, metadata.sections, notes, name)
    assert values is not None
    bit_depth = {255: 8, 65535: 16}.get(int(scale), 32)
    groups = default_groups(values.shape[2], bit_depth, alpha=alpha, colour=colour)
    return finished(oriented(values, metadata.orientation), scale, groups, metadata.sections, notes, bit_depth, name)


def _reason(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


# Mode that a Pillow mode is converted to first, where it is not read as it is.
_CONVERT = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB", "PA": "RGBA"}


def _pillow_values(image: Image.Image, name: str, grey_bits: int) -> tuple[NDArray[Any], float, bool, Colour | None]:
    """A loaded Pillow image as values [H, W, C], the value that means 1, whether the last channel is alpha, colour."""
    mode = image.mode
    transparent = image.info.get("transparency")
    if mode == "P":
        target = "RGBA" if image.has_transparency_data else "RGB"
        return np.asarray(image.convert(target)), 255, target == "RGBA", None
    if mode.startswith("I;16"):
        values: NDArray[Any] = np.asarray(image)
        return _with_key(values[..., None], transparent, 65535), 65535, transparent is not None, None
    if mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{name}: expected values of 0 to 65535, found {values.min()} to {values.max()}")
        return values.astype(np.uint16)[..., None], 65535, False, None
    if mode == "F":
        return np.asarray(image)[..., None], 1, False, None
    image = image.convert(_CONVERT[mode]) if mode in _CONVERT else image
    if image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        raise InputError(f"{name}: pixels of kind {mode} are not supported; convert the image to RGB first")
    values = np.asarray(image)
    values = values[..., None] if values.ndim == 2 else values
    if image.mode in ("L", "RGB") and transparent is not None:
        # A grey level of a PNG with 2 or 4 bits is stated in its own range, while its pixels are stretched to 8 bits.
        if isinstance(transparent, int) and mode == "L":
            transparent = transparent * (255 // (2**grey_bits - 1))
        return _with_key(values, transparent, 255), 255, True, None
    return values, 255, image.mode in ("LA", "RGBA"), Colour.CMYK if image.mode == "CMYK" else None


def _with_key(values: NDArray[Any], transparent: Any, opaque: int) -> NDArray[Any]:
    """Append an alpha channel: 0 where all channels have the transparent value (PNG tRNS), otherwise ``opaque``."""
    if transparent is None:
        return values
    key = np.asarray(transparent).reshape(-1)
    if key.size not in (1, values.shape[2]):
        raise InputError(f"a transparent value of {key.size} channels in a picture of {values.shape[2]}")
    shown = (values != key).any(axis=-1, keepdims=True)
    return np.concatenate([values, np.where(shown, opaque, 0).astype(values.dtype)], axis=-1)
