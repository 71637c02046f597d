"""Any bytes, also with checksums that are right: a result or an IgsError, never another exception, within memory.

The mutations keep head_crc and payload checksums valid, so that they reach the checks behind them.
"""

from __future__ import annotations

import dataclasses
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from files import payload_ranges
from hypothesis import given
from hypothesis import strategies as st

from igs.format import (
    Codec,
    Group,
    Header,
    IgsError,
    Quantizer,
    UsageError,
    describe,
    describe_text,
    open_file,
    quantize,
    read,
    validate_file,
    write,
)
from igs.format.fields import SIGNATURE
from igs.format.header import ATTRIBUTES
from igs.format.lattice import Lattice, ValueModel

HEADER = Header(
    width=40,
    height=30,
    channels=3,
    groups=(Group(channels=3, name="rgb"),),
    background=(0, 0, 0),
    position=Quantizer.uniform(0, 40, 10, shared=True, columns=2),
    scale=Quantizer.float16(2),
    rotation=Quantizer.affine(0, 1 / 64, 6),
    feature=Quantizer.codebook(np.linspace(0, 1, 24).reshape(2, 4, 3)),
)


def _file(codec: Codec) -> bytes:
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, 4, 60) for _ in HEADER.code_bits], axis=1).astype(np.uint32)
    sections = {"json": b'{"a": 1}', "soft": b"x" * 300}
    return write(HEADER, [[codes[:30], codes[30:45]], [codes[45:]]], codec=codec, sections=sections)


def _coded_file() -> bytes:
    rng = np.random.default_rng(0)
    record = Lattice(
        16,
        24,
        16,
        16,
        (32,) * 3,
        True,
        ValueModel(0, 30, 4, 190),
        180,
        (ValueModel(2, 40, 8, 160),) * 3,
        tuple(range(16)),
    )
    kinds = {name: Quantizer.lattice(c) for name, c in zip(ATTRIBUTES, (2, 2, 1, 3), strict=True)}
    header = dataclasses.replace(HEADER, lattice=record, **kinds)
    values = rng.uniform([0, 0], [40, 30], (60, 2)), rng.normal(1, 0.7, (60, 2)), rng.uniform(0, 1, (60, 1))
    codes = quantize(header, *values, rng.uniform(0, 1, (60, 3)))
    return write(header, [[codes[:30], codes[30:45]], [codes[45:]]], sections={"json": b'{"a": 1}'})


PLAIN = (Codec.RAW, Codec.ZSTD, Codec.COLUMNS)
NAMES = [*(codec.name.lower() for codec in PLAIN), "cells"]
FILES = [*(_file(codec) for codec in PLAIN), _coded_file()]


def _use(data: bytes, bound: int = 2**25) -> None:
    """Everything that reads; more memory than ``bound`` is a failure even if the file is refused afterwards."""
    tracemalloc.start()
    try:
        report = validate_file(data)
        try:
            with open_file(data, allow_partial=True) as file:
                describe(file, chunks=True)
                describe_text(file)
                for chunk in file.chunks_in_box(0, 0, 1, 1):
                    file.gaussians(int(chunk))
                dict(file.sections)
        except UsageError:
            raise AssertionError("a file is not the caller's fault") from None
        except IgsError:
            assert not report.valid
        try:
            assert read(data).to_bytes() == data
        except IgsError:
            assert not report.valid
        assert tracemalloc.get_traced_memory()[1] < bound
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=400))
def test_random_bytes(data: bytes) -> None:
    _use(data)
    _use(SIGNATURE + data)


@given(st.data())
def test_fields_of_the_head_with_right_checksums(draw: st.DataObject) -> None:
    data = bytearray(draw.draw(st.sampled_from(FILES)))
    head = struct.unpack_from("<I", data, 12)[0]
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(8, head - 5))
        width = draw.draw(st.sampled_from([1, 2, 4]))
        value = draw.draw(
            st.one_of(st.binary(min_size=width, max_size=width), st.sampled_from([bytes(4), b"\xff" * 4]))
        )
        data[at : at + width] = value[:width]
    end = struct.unpack_from("<I", data, 12)[0]
    if 4 <= end <= len(data):
        struct.pack_into("<I", data, end - 4, zlib.crc32(data[: end - 4]))
    _use(bytes(data))


@given(st.data())
def test_payloads_with_right_checksums(draw: st.DataObject) -> None:
    data = bytearray(draw.draw(st.sampled_from(FILES)))
    payloads = payload_ranges(data)
    chunk = draw.draw(st.integers(0, len(payloads) - 1))
    offset, size = payloads[chunk]
    with open_file(bytes(data)) as file:
        entry, head = file.head.index_offset + 18 * chunk, file.head.head_bytes
    for _ in range(draw.draw(st.integers(1, 3))):
        data[offset + draw.draw(st.integers(0, size - 1))] = draw.draw(st.integers(0, 255))
    struct.pack_into("<H", data, entry + 16, zlib.crc32(data[offset : offset + size]) & 0xFFFF)
    struct.pack_into("<I", data, head - 4, zlib.crc32(data[: head - 4]))
    _use(bytes(data))


@pytest.mark.parametrize("data", FILES, ids=NAMES)
def test_the_seeds_are_valid(data: bytes) -> None:
    assert validate_file(data).valid
