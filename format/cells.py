"""The `cells` codec (spec §5.3): a chunk's Gaussians in the order of a grid of cells, entropy-coded with rANS.

The order of Gaussians carries no information, so none is spent on it: for each cell of the grid a few adaptive yes/no
decisions tell how many means lie in it, and what a Gaussian then costs is its size, its elongation, an angle if it has
one to speak of, the place of its mean among the lattice points of the cell, and its features, some of them predicted
from Gaussians nearby that are already known. All models are static but for those decisions; nothing crosses chunks.

Parts: rans.py the entropy coder; cells_model.py what both directions share; cells_encode.py; cells_decode.py, which
lays chunks out for the kernel of cells_lanes.py, and that reads numbers by cells_numbers.py. They load Numba, and with
this module, therefore only where a file needs it. Everything that decides is an integer or binary64 without
contraction, so that every machine decodes the same. Slow twin: tests/reference_cells.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from igs.format.cells_decode import Coded, decode, decode_gaussians
from igs.format.cells_encode import Encoded, cost, encode
from igs.format.cells_model import KNOTS, SIZE, TAIL, tables

__all__ = [
    "KNOTS",
    "SIZE",
    "TAIL",
    "Coded",
    "Encoded",
    "clip_box",
    "cost",
    "decode",
    "decode_gaussians",
    "encode",
    "tables",
]

F64 = NDArray[np.float64]


def clip_box(box: F64, width: int, height: int) -> F64:
    """The box that a chunk's grid lies in: the index's, no further out than one picture on each side. box: [..., 4]."""
    size = np.array([width, height, width, height], np.float64)
    return np.clip(box, -size, 2.0 * size)
