"""Lists of the Gaussians that can reach each cell of a picture: kernels that make them, in order of file-wide index.

Two stages, so that the work is near to linear in the Gaussians: coarse cells of 8 × 8 cells go through *runs* of 128
successive Gaussians, whose boxes of reach drop most runs whole (the file's order is by chunks, so neighbours stand
together); cells then go through their coarse cell's list. One block makes one list: it counts, takes its place with a
single atomic addition, and writes. Where a list lies depends on timing, but what it holds doesn't, nor its order: a
thread's place is the number of bits before its own in a mask in shared memory. No sort and no scan.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda, float32, int64

from igs.decoder.constants import SLACK
from igs.decoder.cuda.arithmetic import R_WORD, as_float, load4, may_reach, smaller

RUN = 128  # Gaussians to a run, threads to a block
WORDS = RUN // 32
COARSE = 3  # log2 of the cells along a side of a coarse cell
_EDGE = 1 << 30

# Columns of the table of layers, int64 [layers, LAYER_FIELDS]. A layer is what is blended by itself: the picture, or
# one level of a residual picture.
(
    GAUSSIAN,  # its first Gaussian
    NUMBER,  # of Gaussians
    FIRST_RUN,
    RUNS,
    FIRST_CELL,
    COLUMNS,  # of cells
    ROWS,
    FIRST_COARSE,
    COARSE_COLUMNS,
    SHIFT,  # log2 of a cell's side in units
    LEFT,  # units
    TOP,
    RULE,  # its row of the table of rules
) = range(13)
LAYER_FIELDS = 13


@cuda.jit(device=True)
def find_row(table, column, value):
    """The last row whose ``column`` is ≤ value; the column ascends from 0."""
    low = 0
    high = table.shape[0]
    while high - low > 1:
        middle = (low + high) // 2
        if table[middle, column] <= value:
            low = middle
        else:
            high = middle
    return low


@cuda.jit(device=True)
def cell_edges(first, shift, number, across):
    """First and last unit of cell ``number`` of ``across``; those at the border go on for ever."""
    low = first + (number << shift)
    high = low + (1 << shift) - 1
    if number == 0:
        low = -_EDGE
    if number == across - 1:
        high = _EDGE - 1
    return np.int32(low), np.int32(high)


def run_boxes(words, stride, layers, rules, boxes):
    """The box of reach of every run, a block of RUN threads each: float32 [runs, 4], units, rounded outwards.

    words: ``arena.words``, flat; stride: words to a Gaussian.
    """
    sides = cuda.shared.array((4, 128), float32)
    thread = cuda.threadIdx.x
    run = cuda.blockIdx.x
    if run >= boxes.shape[0]:
        return
    layer = find_row(layers, FIRST_RUN, run)
    offset = (run - layers[layer, FIRST_RUN]) * RUN + thread
    i = layers[layer, GAUSSIAN] + min(offset, layers[layer, NUMBER] - 1)
    reach = np.float32(math.sqrt(rules[layers[layer, RULE], 0]) * SLACK)
    at = np.uint64(i * stride)
    mx, my, p_bits, q_bits = load4(words, at)
    p = as_float(p_bits)
    q = as_float(q_bits)
    r = as_float(words[at + R_WORD])
    # A mean in binary32 is off by up to 64 units, and so is the sum; d2 by less than what SLACK covers.
    across = reach * np.float32(math.sqrt(q * q + r * r)) / (p * r) + np.float32(256.0)
    down = reach / r + np.float32(256.0)
    sides[0, thread] = np.float32(mx) - across
    sides[1, thread] = np.float32(my) - down
    sides[2, thread] = -(np.float32(mx) + across)
    sides[3, thread] = -(np.float32(my) + down)
    half = RUN // 2
    while half > 0:
        cuda.syncthreads()
        if thread < half:
            for side in range(4):
                sides[side, thread] = smaller(sides[side, thread], sides[side, thread + half])
        half //= 2
    cuda.syncthreads()
    if thread < 2:
        boxes[run, thread] = sides[thread, 0]
        boxes[run, thread + 2] = -sides[thread + 2, 0]


@cuda.jit(device=True)
def set_bits(mask, thread, flag):
    """mask [WORDS] gets a bit per thread of the block whose flag is set."""
    cuda.syncthreads()
    if thread < WORDS:
        mask[thread] = 0
    cuda.syncthreads()
    if flag:
        cuda.atomic.or_(mask, thread >> 5, np.int64(1) << np.int64(thread & 31))
    cuda.syncthreads()


@cuda.jit(device=True)
def take(mask, thread, flag, fill, at, entries, place):
    """How many threads of the block have the flag; with ``fill`` their ``at`` go to entries[place:], in their order."""
    if not fill:
        return cuda.syncthreads_count(np.int32(1) if flag else np.int32(0))
    set_bits(mask, thread, flag)
    before = 0
    total = 0
    for word in range(WORDS):
        number = cuda.popc(mask[word])
        if word < thread >> 5:
            before += number
        total += number
    if flag:
        lower = (np.int64(1) << np.int64(thread & 31)) - np.int64(1)
        entries[place + before + cuda.popc(mask[thread >> 5] & lower)] = at
    return total


@cuda.jit(device=True)
def reserve(start, number, thread, totals, stage, entries, cells, cell):
    """Room for ``number`` entries: start[0] gets where, or −1 for none; totals[stage] grows by it all the same."""
    if thread == 0:
        place = cuda.atomic.add(totals, stage, np.int64(number))
        if place + number > entries.shape[0]:
            cells[cell, 0] = 0
            cells[cell, 1] = 0
            start[0] = -1
        else:
            cells[cell, 0] = place
            cells[cell, 1] = place + number
            start[0] = place
    cuda.syncthreads()


def fill_coarse(words, stride, layers, rules, boxes, totals, entries, cells):
    """The list of a coarse cell, a block each, from the runs: where each Gaussian's words begin.

    entries: uint32; cells: uint32 [coarse cells, 2] gets start and end.
    """
    mask = cuda.shared.array(4, int64)
    hits = cuda.shared.array(4, int64)
    start = cuda.shared.array(1, int64)
    thread = cuda.threadIdx.x
    cell = cuda.blockIdx.x
    if cell >= cells.shape[0]:
        return
    layer = find_row(layers, FIRST_COARSE, cell)
    across = layers[layer, COARSE_COLUMNS]
    down = (layers[layer, ROWS] + (1 << COARSE) - 1) >> COARSE
    shift = layers[layer, SHIFT] + COARSE
    number = cell - layers[layer, FIRST_COARSE]
    left, right = cell_edges(layers[layer, LEFT], shift, number % across, across)
    top, bottom = cell_edges(layers[layer, TOP], shift, number // across, down)
    reach2 = rules[layers[layer, RULE], 0]
    first_run = layers[layer, FIRST_RUN]
    first = layers[layer, GAUSSIAN]
    end = first + layers[layer, NUMBER]
    runs = layers[layer, RUNS]
    place = np.int64(0)
    for fill in range(2):
        found = np.int64(0)
        for group in range(0, runs, RUN):
            run = first_run + group + thread
            meets = False
            if group + thread < runs:
                meets = (
                    boxes[run, 0] <= right
                    and boxes[run, 2] >= left
                    and boxes[run, 1] <= bottom
                    and boxes[run, 3] >= top
                )
            set_bits(hits, thread, meets)
            for word in range(WORDS):
                bits = hits[word]
                bit = 0
                while bits != 0:
                    if bits & 1:
                        i = first + (group + word * 32 + bit) * RUN + thread
                        flag = False
                        at = np.uint32(i * stride)
                        if i < end:
                            flag = may_reach(words, np.uint64(at), left, right, top, bottom, reach2)
                        found += take(mask, thread, flag, fill == 1, at, entries, place + found)
                    bits >>= 1
                    bit += 1
        if fill == 0:
            reserve(start, found, thread, totals, 0, entries, cells, cell)
            place = start[0]
            if place < 0:
                return


def fill_cells(words, layers, rules, coarse_entries, coarse, totals, entries, cells):
    """The list of a cell, a block each, from its coarse cell's. cells: uint32 [cells, 2] gets start and end."""
    mask = cuda.shared.array(4, int64)
    start = cuda.shared.array(1, int64)
    thread = cuda.threadIdx.x
    cell = cuda.blockIdx.x
    if cell >= cells.shape[0]:
        return
    layer = find_row(layers, FIRST_CELL, cell)
    across = layers[layer, COLUMNS]
    number = cell - layers[layer, FIRST_CELL]
    column = number % across
    row = number // across
    left, right = cell_edges(layers[layer, LEFT], layers[layer, SHIFT], column, across)
    top, bottom = cell_edges(layers[layer, TOP], layers[layer, SHIFT], row, layers[layer, ROWS])
    reach2 = rules[layers[layer, RULE], 0]
    parent = layers[layer, FIRST_COARSE] + (row >> COARSE) * layers[layer, COARSE_COLUMNS] + (column >> COARSE)
    first = np.int64(coarse[parent, 0])
    end = np.int64(coarse[parent, 1])
    place = np.int64(0)
    for fill in range(2):
        found = np.int64(0)
        for group in range(first, end, RUN):
            flag = False
            at = np.uint32(0)
            if group + thread < end:
                at = coarse_entries[group + thread]
                flag = may_reach(words, np.uint64(at), left, right, top, bottom, reach2)
            found += take(mask, thread, flag, fill == 1, at, entries, place + found)
        if fill == 0:
            reserve(start, found, thread, totals, 1, entries, cells, cell)
            place = start[0]
            if place < 0:
                return
