"""``.igs`` files for Pillow: after ``import igs.pillow``, ``Image.open`` reads them and ``Image.save`` writes them.

What speaks Pillow — viewers, web frameworks, data sets — then speaks igs. Opening reads the header and the index;
pixels are decoded when they are asked for, and ``thumbnail`` and ``draft`` decode at the size that they need. For
regions, scales above 1, points, levels and texture stacks there is :func:`igs.open`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

from igs.decoder import Image as Picture
from igs.decoder import open as open_picture
from igs.decoder.grid import output_size
from igs.decoder.light import has_light, shown
from igs.format.errors import IgsError, InvalidFile, Unsupported
from igs.format.fields import MAGIC
from igs.format.groups import layout_of
from igs.format.sections import resolution_per_inch
from igs.format.validate import validate_file

FORMAT, SUFFIX, MIME = "IGS", ".igs", "image/x-igs"

_DEEP = {16: ("I;16", "uint16"), 32: ("F", "float32")}  # of grey without alpha, which Pillow has a mode for
_INFO = {"icc_profile": "iccp", "exif": "exif", "xmp": "xmpd"}  # what Pillow calls sections
_METADATA = (*_INFO, "dpi")


class IgsImageFile(ImageFile.ImageFile):
    """An ``.igs`` file as an image of mode L, LA, RGB, RGBA, CMYK, I;16 or F. Made by ``Image.open``.

    ``info`` has ``icc_profile``, ``exif``, ``xmp`` and ``dpi`` where the file has them, and ``num_gaussians``. Of 16
    bits and float Pillow holds grey only; the rest becomes 8 bits, light above white sRGB, clipped at white. Errors are
    OSError, with the IgsError as its cause: bad files, and pictures that Pillow has no mode for. A truncated file is
    read up to its last whole level where ``ImageFile.LOAD_TRUNCATED_IMAGES`` is set.
    """

    format = FORMAT
    format_description = "Image of 2D Gaussians"

    _picture: Picture | None = None
    _scale = 1.0
    _lock: Any = contextlib.nullcontext()  # of one that was pickled, and so has its pixels

    def _open(self) -> None:
        self._lock = threading.Lock()  # Pillow has none, but an image may well be loaded by two threads
        with _as_os_error():
            picture = open_picture(self.fp, allow_partial=ImageFile.LOAD_TRUNCATED_IMAGES)
            self._mode, self._dtype = _mode_of(picture)
            self._size = picture.width, picture.height
            self.info.update(_info_of(picture))
        self._picture = picture
        self.tile = [ImageFile._Tile(SUFFIX, (0, 0, *self.size), 0, None)]  # until loaded, as for other formats

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Decode at a lower scale, so that the picture is just as large as ``size`` or larger. mode is not changed.

        Returns (mode, box) as Pillow asks: what the picture covers of its new size; None if nothing changes.
        """
        if self._picture is None or size is None or self._scale != 1:
            return None
        width, height = self.size
        scale = max(size[0] / width, size[1] / height)
        if not 0 < scale < 1:
            return None
        self._scale = scale
        self._size = columns, rows = output_size(width, scale), output_size(height, scale)
        self.tile = [ImageFile._Tile(SUFFIX, (0, 0, *self.size), 0, None)]
        return self.mode, (0, 0, min(width * scale, columns), min(height * scale, rows))

    def load(self) -> Any:
        """Decode, once. Raises OSError for a file that is damaged or closed."""
        with self._lock:
            if self._picture is not None:
                with _as_os_error():
                    pixels = _pixels(self._picture, self._scale, self._dtype)
                # From an array four channels would mean RGBA.
                self.im = Image.frombytes(self.mode, self.size, pixels.tobytes()).im
                self._let_go(self._picture)
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Nothing; that there is one tells ``ImageFile.Parser`` to leave the pixels to ``load``."""

    def verify(self) -> None:
        """Check all checksums and all Gaussians; to be called right after opening. Raises OSError."""
        if self._picture is not None and self.fp is not None:
            with _as_os_error():
                report = validate_file(self.fp)
                for finding in report.findings:
                    if finding.severity == "error":
                        raise InvalidFile(finding.code, finding.message, finding.offset)
            self._let_go(self._picture)
        super().verify()

    def _let_go(self, picture: Picture) -> None:
        """Of the Gaussians, and of a file that Pillow has opened by name."""
        picture.close()
        self._picture, self.tile = None, []
        if self._exclusive_fp and self.fp is not None:
            self.fp.close()
        self.fp = None


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Users of Pillow expect OSError of a file that can't be read."""
    try:
        yield
    except IgsError as error:
        raise OSError(str(error)) from error


def _mode_of(picture: Picture) -> tuple[str, str]:
    """The mode of a picture and the dtype that it is decoded to. Raises Unsupported if Pillow has none for it."""
    groups = tuple(picture.groups)
    layout = layout_of(groups)
    if layout == "N":
        names = ", ".join(group.name or "without a name" for group in groups)
        raise Unsupported(
            f"expected grey, RGB or CMYK, found {picture.channels} channels in groups {names}; igs.open reads them"
        )
    if has_light(groups):
        return layout, "light"
    return _DEEP[groups[0].bit_depth] if layout == "L" and groups[0].bit_depth in _DEEP else (layout, "uint8")


def _pixels(picture: Picture, scale: float, dtype: str) -> np.ndarray[Any, Any]:
    if dtype == "light":
        return shown(picture.decode(scale, dtype="float32"), tuple(picture.groups), 8)[0]
    return picture.decode(scale, dtype=dtype)


def _info_of(picture: Picture) -> dict[str, Any]:
    found: dict[str, Any] = {"num_gaussians": picture.num_gaussians}
    for key, section in _INFO.items():
        with contextlib.suppress(InvalidFile):  # damaged, or beyond the end of a partial file: pixels need none of it
            if section in picture.metadata:
                found[key] = picture.metadata[section]
    with contextlib.suppress(InvalidFile):
        density = resolution_per_inch(picture.metadata)
        if density is not None:
            found["dpi"] = density
    return found


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """``Image.save`` by :func:`igs.encode`, which needs torch. Its settings are the options; of Pillow's own there are
    ``icc_profile``, ``exif``, ``xmp`` and ``dpi``, each instead of the image's, None for nothing.
    """
    from igs.encoder import encode

    settings = dict(image.encoderinfo)
    metadata = {key: settings.pop(key) for key in _METADATA if key in settings}
    if metadata:
        image = image.copy()  # which also forgets what EXIF was read before
        for key, value in metadata.items():
            image.info.pop(key, None)
            if value is not None:
                image.info[key] = value.tobytes() if isinstance(value, Image.Exif) else value
    fp.write(encode(image, **settings).data)


def register() -> None:
    """Tell Pillow of the format; importing this module does."""
    Image.register_open(FORMAT, IgsImageFile, lambda prefix: prefix.startswith(MAGIC))
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, SUFFIX)
    Image.register_mime(FORMAT, MIME)


register()
