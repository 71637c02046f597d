"""The decoder's CUDA kernels compiled to PTX, which needs no GPU: that they compile, and what is in them."""

from __future__ import annotations

import importlib.util
import re
import types

import pytest

from igs.decoder.cuda.device import SIMULATED

if importlib.util.find_spec("numba_cuda") is None or SIMULATED:
    pytest.skip("needs numba-cuda, and not its simulator", allow_module_level=True)

from numba import cuda, float32, float64, int32, int64, uint8, uint16, uint32, uint64
from numba.cuda import dispatcher

from igs.decoder.cuda import arithmetic, cells, channels
from igs.decoder.cuda.specialize import Kind, functions

WORDS, INTS, ENTRIES, LONGS = int32[::1], int32[::1], uint32[::1], int64[::1]
FLOATS, RANGES, TABLE = float32[:, ::1], uint32[:, ::1], int64[:, ::1]
PICTURE = (WORDS, ENTRIES, RANGES, TABLE, FLOATS)
DTYPES = {"uint8": uint8, "uint16": uint16, "float32": float32}


@pytest.fixture(params=[(8, 0), (9, 0)], ids=["cc80", "cc90"])
def ptx(request, monkeypatch):
    """A function that compiles one."""
    # Device functions ask the GPU at hand what they are compiled for.
    device = types.SimpleNamespace(compute_capability=request.param)
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)

    def compiled(function, *arguments, fastmath=False) -> str:
        options = {"device": False, "abi": "numba", "cc": request.param, "fastmath": fastmath}
        code, _ = cuda.compile(function, arguments, **options)
        assert f".target sm_{request.param[0]}{request.param[1]}" in code
        return str(code)

    return compiled


def test_lists(ptx):
    ptx(cells.run_boxes, WORDS, int64, TABLE, FLOATS, FLOATS)
    ptx(cells.fill_coarse, WORDS, int64, TABLE, FLOATS, FLOATS, LONGS, ENTRIES, RANGES)
    ptx(cells.fill_cells, WORDS, TABLE, FLOATS, ENTRIES, RANGES, LONGS, ENTRIES, RANGES)


@pytest.mark.parametrize("dtype", DTYPES)
def test_channels_of_parts(ptx, dtype):
    ptx(channels.place, DTYPES[dtype][::1], LONGS, int64, DTYPES[dtype][::1])


@pytest.mark.parametrize(
    ("kind", "dtype", "in_registers"),
    [
        (Kind(10, 3, 3, True), "uint8", True),
        (Kind(32, 3, 3, True), "uint8", True),
        (Kind(32, 4, 6, True), "uint16", True),
        (Kind(0, 3, 3, True), "float32", True),
        (Kind(10, 64, 66, False), "float32", False),  # alpha's channel is looked up: memory of the thread's own
    ],
    ids=str,
)
def test_pictures(ptx, kind, dtype, in_registers):
    found = functions(kind, dtype)
    out = DTYPES[dtype][::1]
    codes = [
        ptx(found["draw"], *PICTURE, TABLE, INTS, out),
        ptx(found["draw_reduced"], *PICTURE, TABLE, INTS, out),
        ptx(found["sample_points"], *PICTURE, float64[:, ::1], FLOATS),
    ]
    for code in codes:
        assert "ex2.approx" in code
        assert "ld.global.v4" in code
        # K and the channels are constants so that loops over them unroll, and what they index stays in registers.
        assert (".local" not in code) == in_registers


@pytest.mark.parametrize("fastmath", [False, True])
def test_what_decides_who_counts_is_not_fused(ptx, fastmath):
    """Also within a kernel of a user who asks for fast mathematics."""
    limits = functions(Kind(10, 3, 3, True), "float32")["limits"]

    def distances(words, out):
        i = cuda.grid(1)
        out[i] = arithmetic.squared_distance(words, uint64(i * 8), int32(5), int32(7))

    def ranks(words, entries, out):
        i = cuda.grid(1)
        nearest, limit, room = limits(
            words, entries, uint64(0), uint64(i), int32(5), int32(7), float32(25.0), float32(9.0)
        )
        out[i, 0] = nearest
        out[i, 1] = limit
        out[i, 2] = room

    distance = ptx(distances, WORDS, float32[::1], fastmath=fastmath)
    for code in (distance, ptx(ranks, WORDS, ENTRIES, FLOATS, fastmath=fastmath)):
        assert not re.search(r"\bfma\.", code)
        assert not re.search(r"\b(mul|add|sub)(\.ftz)?\.f32", code)  # without .rn the assembler may fuse them
    assert len(re.findall(r"\bmul\.rn(\.ftz)?\.f32", distance)) == 5
    assert len(re.findall(r"\badd\.rn(\.ftz)?\.f32", distance)) == 2


def test_a_kernel_of_ones_own(ptx):
    fetch = functions(Kind(10, 3, 3, True), "float32")["fetch"]

    def warp(picture, out):
        i = cuda.grid(1)
        value = cuda.local.array(3, float32)
        fetch(picture, i * 0.5, i * 0.25, value)
        out[i] = value[0]

    from numba import types as numba_types

    ptx(warp, numba_types.Tuple(PICTURE), float32[::1])
