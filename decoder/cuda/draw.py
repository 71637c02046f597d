"""Kernels that draw regions of one picture or of many, and sample points; specialised as ``blend.py`` is.

One launch draws everything: a block of 256 threads takes a tile of 16 × 16 points of whichever region it falls into.
A warp takes 8 × 4 of them rather than two rows of 16, so that its points mostly lie in one cell, count the same
Gaussians, and skip the others together.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda, float32, float64, int64

from igs.decoder.cuda.arithmetic import fix_point
from igs.decoder.cuda.blend import CHANNELS, stored_value, to_picture, write
from igs.decoder.cuda.cells import RULE, find_row

TILE = 16
THREADS = TILE * TILE

# Columns of the table of jobs, int64 [regions, JOB_FIELDS]: regions to be drawn by one launch.
(
    FIRST_TILE,
    TILES_ACROSS,
    WIDTH,  # output samples
    HEIGHT,
    REDUCTION,  # n: an output sample is the mean of n × n points
    OUT,  # its first element in ``out``
    XS,  # where its points' x begin in ``coordinates``, n per column
    YS,
    FIRST_LAYER,
    LAST_LAYER,  # plus one
) = range(10)
JOB_FIELDS = 10


@cuda.jit(device=True)
def find_tile(jobs, each, thread, found):
    """found [3] gets, for all threads of the block: the region, and its first output column and row in the tile.

    each: output samples along a side of a tile, 0 for TILE // n. One thread divides for all. A block too many comes
    to lie below the last region.
    """
    if thread == 0:
        job = find_row(jobs, FIRST_TILE, cuda.blockIdx.x)
        tile = cuda.blockIdx.x - jobs[job, FIRST_TILE]
        side = each if each > 0 else max(TILE // jobs[job, REDUCTION], 1)
        found[0] = job
        found[1] = tile % jobs[job, TILES_ACROSS] * side
        found[2] = tile // jobs[job, TILES_ACROSS] * side
    cuda.syncthreads()


def draw(words, entries, cells, layers, rules, jobs, coordinates, out):
    """Regions at scales of 1 and above: out [elements] uint8, uint16 or float32, C-ordered [rows, columns, C] each."""
    value = cuda.local.array(CHANNELS, float32)
    found = cuda.shared.array(3, int64)
    thread = cuda.threadIdx.x
    find_tile(jobs, TILE, thread, found)
    job = found[0]
    warp = thread >> 5
    column = found[1] + (warp & 1) * 8 + (thread & 7)
    row = found[2] + (warp >> 1) * 4 + (thread >> 3 & 3)
    if column < jobs[job, WIDTH] and row < jobs[job, HEIGHT]:
        x = coordinates[jobs[job, XS] + column]
        y = coordinates[jobs[job, YS] + row]
        first = jobs[job, FIRST_LAYER]
        stored_value(words, entries, cells, layers, rules, first, jobs[job, LAST_LAYER], x, y, value)
        to_picture(rules, layers[first, RULE], value)
        write(value, out, jobs[job, OUT] + (row * jobs[job, WIDTH] + column) * CHANNELS)


def draw_reduced(words, entries, cells, layers, rules, jobs, coordinates, out):
    """Regions at scales below 1 (n > 1): a tile holds as many whole output samples as fit, or a part of one.

    A thread adds up its points over the parts, then one thread per output sample adds up the threads', row by row, in
    binary64: an order that depends on n alone.
    """
    value = cuda.local.array(CHANNELS, float32)
    total = cuda.local.array(CHANNELS, float64)
    shared = cuda.shared.array(256, float64)
    found = cuda.shared.array(3, int64)
    thread = cuda.threadIdx.x
    find_tile(jobs, 0, thread, found)
    job = found[0]
    left = found[1]
    top = found[2]
    n = jobs[job, REDUCTION]
    first = jobs[job, FIRST_LAYER]
    each = max(TILE // n, 1)  # output samples along a side of a tile
    parts = (n + TILE - 1) // TILE  # tiles along a side of an output sample
    warp = thread >> 5
    dx = (warp & 1) * 8 + (thread & 7)
    dy = (warp >> 1) * 4 + (thread >> 3 & 3)
    end_x = min(left + each, jobs[job, WIDTH]) * n
    end_y = min(top + each, jobs[job, HEIGHT]) * n
    for c in range(CHANNELS):
        total[c] = 0.0
    for part in range(parts * parts):
        px = left * n + part % parts * TILE + dx
        py = top * n + part // parts * TILE + dy
        if px < end_x and py < end_y:
            x = coordinates[jobs[job, XS] + px]
            y = coordinates[jobs[job, YS] + py]
            stored_value(words, entries, cells, layers, rules, first, jobs[job, LAST_LAYER], x, y, value)
            for c in range(CHANNELS):
                total[c] += value[c]
    column = left + thread % each
    row = top + thread // each
    writes = thread < each * each and column < jobs[job, WIDTH] and row < jobs[job, HEIGHT]
    side = min(n, TILE)
    for c in range(CHANNELS):
        cuda.syncthreads()
        shared[dy * TILE + dx] = total[c]
        cuda.syncthreads()
        if writes:
            mean = 0.0
            for j in range(thread // each * side, thread // each * side + side):
                for i in range(thread % each * side, thread % each * side + side):
                    mean += shared[j * TILE + i]
            value[c] = np.float32(mean / (n * n))
    if writes:
        to_picture(rules, layers[first, RULE], value)
        write(value, out, jobs[job, OUT] + (row * jobs[job, WIDTH] + column) * CHANNELS)


def fetch_value(words, entries, cells, layers, rules, x, y, value):
    """The picture value of picture 0 at (x, y), pixels, any finite numbers → value [C]; NaN where they aren't."""
    ix, iy = fix_point(x, y)
    stored_value(words, entries, cells, layers, rules, 0, layers.shape[0], ix, iy, value)
    to_picture(rules, 0, value)
    if not (math.isfinite(x) and math.isfinite(y)):
        for c in range(CHANNELS):
            value[c] = np.float32(np.nan)


def fetch(data, x, y, value):
    """``fetch_value`` for the kernels of others; data: ``Arena.arrays``."""
    words, entries, cells, layers, rules = data
    fetch_value(words, entries, cells, layers, rules, x, y, value)


def sample_points(words, entries, cells, layers, rules, points, out):
    """points: float32 or float64 [m, 2], pixels → out, float32 [m, C]; a thread each."""
    value = cuda.local.array(CHANNELS, float32)
    i = cuda.grid(1)
    if i < points.shape[0]:
        fetch_value(words, entries, cells, layers, rules, points[i, 0], points[i, 1], value)
        for c in range(CHANNELS):
            out[i, c] = value[c]
