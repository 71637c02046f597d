"""Finds the file behind a Pillow image that the caller holds: it may have bits that Pillow did not keep."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, BinaryIO

from PIL import Image


@contextmanager
def file_of(image: Image.Image) -> Iterator[BinaryIO | None]:
    """The file or stream that an image was opened from, afterwards put back to its place; None where it is gone.

    What converting, resizing or copying gives is an image that comes from no file.
    """
    with ExitStack() as stack:
        file: BinaryIO | None = None
        path = getattr(image, "filename", "")  # of what Pillow has opened by name; it closes that after loading
        if image.format is not None and path:
            if os.path.isfile(path):  # and no pipe, which would wait
                with suppress(OSError):
                    file = stack.enter_context(open(path, "rb"))
        elif image.format is not None:
            # Pillow lets go of a stream when it has loaded the pixels, but formats of several frames keep it as _fp.
            streams = (_usable(getattr(image, place, None)) for place in ("fp", "_fp"))
            file = next((stream for stream in streams if stream is not None), None)
            if file is not None:
                stack.callback(file.seek, file.tell())
        yield file


def _usable(stream: Any) -> BinaryIO | None:
    try:
        stream.seek(stream.tell())
    except Exception:  # closed, a pipe, None, or what Pillow puts in the place of a closed stream
        return None
    found: BinaryIO = stream
    return found


def shows_its_file(image: Image.Image, again: Image.Image) -> bool:
    """Whether a loaded image is still what Pillow reads from its file; again: that file, newly opened."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told when the image itself was loaded
            again.seek(image.tell())
            again.load()  # which may turn it
        about = [(i.format, i.mode, i.size, i.info.get("transparency")) for i in (again, image)]
        return about[0] == about[1] and again.tobytes() == image.tobytes()
    except MemoryError:
        raise
    except Exception:  # another file in its place, or a damaged one
        return False
