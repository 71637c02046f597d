"""Loading: limits, damaged files and any bytes at all (spec §8.3)."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_cases import png, ramp
from PIL import Image

from igs.cli.output_png import write_png16
from igs.encoder.loading.image import load_image
from igs.format.errors import InputError, Unsupported


def test_limits_name_their_option() -> None:
    data = png(Image.new("L", (100, 20)))
    with pytest.raises(InputError, match="--size-limit"):
        load_image(data, size_limit=1999)
    with pytest.raises(InputError, match="--dimension-limit"):
        load_image(data, dimension_limit=99)
    with pytest.raises(InputError, match="--memory-limit"):
        load_image(data, memory_limit=2000 * 36 - 1)
    assert load_image(data, size_limit=2000, dimension_limit=100).width == 100


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    """A PNG of 30000 × 30000 pixels in 1 KB: Pillow's own check would come first, and name no option."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 30000, 30000, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(InputError, match="--size-limit"):
        load_image(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1000) + b"IDAT" + bytes(1000))
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("format_", ["png", "jpeg", "tiff", "gif", "webp", "bmp", "ppm"])
def test_any_truncation_loads_or_is_an_input_error(format_: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(ramp(16, 16, 3)).save(buffer, format_)
    data = buffer.getvalue()
    # Where tifffile is missing, a damaged TIFF may look like one of those that need it.
    missing = () if importlib.util.find_spec("tifffile") else (Unsupported,)
    failures = 0
    for length in range(0, len(data), max(1, len(data) // 40)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                load_image(data[:length])
            except (InputError, *missing):
                failures += 1
    assert failures > 5


@given(
    st.binary(max_size=200),
    st.sampled_from(
        [b"", b"\x76\x2f\x31\x01\x02\0\0\0", b"\x89PNG\r\n\x1a\n", b"II*\0", b"\xff\xd8", b"P6 3 3 999 ", b"\x93NUMPY"]
    ),
)
def test_any_bytes_load_or_are_an_input_error(data: bytes, prefix: bytes) -> None:
    with contextlib.suppress(InputError, Unsupported):  # Unsupported: EXR without its library
        load_image(prefix + data)


def _seeds() -> list[bytes]:
    """Small files of every kind that is parsed by different code."""
    seeds = []
    for format_ in ("png", "gif", "tiff", "jpeg", "webp", "bmp", "tga", "ppm"):
        buffer = io.BytesIO()
        Image.fromarray(ramp(9, 7, 3)).save(buffer, format_)
        seeds.append(buffer.getvalue())
    for array in (ramp(9, 7, 3, top=65535), ramp(9, 7, 5)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        seeds.append(buffer.getvalue())
    seeds.append(b"P6 7 9 999\n" + ramp(9, 7, 6).tobytes())
    buffer = io.BytesIO()
    write_png16(buffer, ramp(9, 7, 4, top=65535), {"exif": b"II*\0\x08\0\0\0\0\0"})
    seeds.append(buffer.getvalue())
    tifffile = pytest.importorskip("tifffile")
    for array, options in [
        (ramp(9, 7, 3, top=65535), {"photometric": "rgb"}),
        (ramp(9, 7, 4).astype(np.float32), {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
        (ramp(5, 9, 7, top=65535), {"photometric": "minisblack", "planarconfig": "separate", "compression": "zlib"}),
        (ramp(9, 7, 4, top=65535), {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
        (ramp(9, 7, 2), {"photometric": "miniswhite", "extrasamples": ["assocalpha"], "planarconfig": "contig"}),
        (ramp(9, 7, top=65535), {"photometric": "miniswhite"}),
        (ramp(9, 7), {"photometric": "palette", "colormap": ramp(3, 256, top=65535)}),
    ]:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, **options)
        seeds.append(buffer.getvalue())
    return seeds


@given(st.data())
def test_damaged_files_load_or_are_an_input_error(data: st.DataObject) -> None:
    """A few bytes changed anywhere: a picture or an InputError, with memory bounded by the limit."""
    damaged = bytearray(data.draw(st.sampled_from(_seeds())))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, min(len(damaged) - 1, data.draw(st.sampled_from([64, 400, 10**6])))))
        damaged[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        source = load_image(bytes(damaged), size_limit=10**6, memory_limit=10**8)
        assert np.isfinite(source.pixels).all()
