"""The Gaussians of one part of an open file that have been read so far, each at its index within the part.

Chunks are read once, when first needed. Memory is claimed for all Gaussians of the part at once but used only as chunks
arrive (the operating system gives pages when they are written).
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from igs.decoder.rule import Splats
from igs.format import FileReader, Part
from igs.format.errors import LimitExceeded

Chunks = npt.NDArray[np.intp]

_BATCH_GAUSSIANS = 1 << 17  # about 40 MB on the way


def _columns(rows: int, n: int, dtype: type) -> npt.NDArray[Any]:
    """[rows, n], with 16 elements behind the end: kernels load whole vectors."""
    flat: npt.NDArray[Any] = np.empty(rows * n + 16, dtype)
    flat[rows * n :] = 0
    return flat[: rows * n].reshape(rows, n)


def _rows(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> slice | npt.NDArray[np.int64]:
    """Rows from each start to each end, one run after the other: a slice where that is one run."""
    counts = ends - starts
    after: npt.NDArray[np.int64] = counts.cumsum()
    total = int(after[-1]) if len(after) else 0
    if total and total == ends[-1] - starts[0]:
        return slice(int(starts[0]), int(ends[-1]))
    return np.arange(total, dtype=np.int64) + np.repeat(starts - (after - counts), counts)


class Store:
    """Chunks of a part, cached. ``load`` is thread-safe; what is loaded never changes.

    loaded, starts, ends: of each chunk, from ``first_chunk`` on: whether it is there, and its Gaussians in ``all``.
    """

    def __init__(self, reader: FileReader, part: Part, threads: int | None = None) -> None:
        self._first, self.num_gaussians, _ = reader.part_extent(part)
        self.first_chunk = part.first_chunk
        n, chunks = self.num_gaussians, part.last_chunk - part.first_chunk
        self._reader = reader
        self._threads = threads
        self._lock = threading.Lock()
        try:
            means, factors = _columns(2, n, np.int32), _columns(3, n, np.float32)
            features = np.empty((n, part.header.features), np.float32)
            self.loaded = np.zeros(chunks, np.uint8)
            self.starts, self.ends = np.zeros(chunks, np.int64), np.zeros(chunks, np.int64)
        except MemoryError:
            raise LimitExceeded("E_LIMIT_GAUSSIANS", f"expected memory for {n} Gaussians, found too little") from None
        self.all = Splats(means, factors, features)

    def load(self, chunks: Chunks) -> None:
        """Read those of the chunks (ascending numbers in the file) that have not been read yet."""
        if self.loaded[chunks - self.first_chunk].all():
            return
        with self._lock:
            missing = chunks[self.loaded[chunks - self.first_chunk] == 0]
            for batch in self._batches(missing) if len(missing) else ():  # another thread may have read them meanwhile
                read, own = self._reader.read_together(batch, self._threads), batch - self.first_chunk
                starts = self._reader.first_indices(batch) - self._first
                ends = starts + self._reader.entries["count"][batch]
                rows = _rows(starts, ends)
                self.all.means[:, rows] = read.means.T
                self.all.factors[:, rows] = read.factors.T
                self.all.features[rows] = read.features
                self.starts[own], self.ends[own] = starts, ends
                self.loaded[own] = 1

    def _batches(self, chunks: Chunks) -> list[Chunks]:
        """Chunks to read together: what is on the way (codes, binary64 columns) is several times the final memory."""
        before = np.cumsum(self._reader.entries["count"][chunks].astype(np.int64)) // _BATCH_GAUSSIANS
        if not before.any():
            return [chunks]
        return np.split(chunks, np.flatnonzero(np.diff(before)) + 1)

    def splats(self, chunks: Chunks) -> Splats:
        """The Gaussians of some chunks (ascending numbers, loaded by this call), in file order."""
        self.load(chunks)
        own = chunks - self.first_chunk
        if len(own) == len(self.loaded):
            return self.all
        return self.all.take(_rows(self.starts[own], self.ends[own]))
