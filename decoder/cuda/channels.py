"""A kernel that puts the channels of one part among those of the whole picture."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import cuda

from igs.decoder.cuda.arrays import Upload, hold
from igs.decoder.cuda.device import load
from igs.decoder.cuda.specialize import enough, kernel

_THREADS = 256


def place(values: Any, columns: Any, channels: int, out: Any) -> None:
    """values [points · columns] → out [points · channels], flat: value c of a point goes to column ``columns[c]``."""
    i = cuda.grid(1)
    if i < values.shape[0]:
        own = columns.shape[0]
        out[i // own * channels + columns[i % own]] = values[i]


@functools.cache
def _compiled() -> Any:
    return kernel(place)


def place_channels(values: Any, columns: npt.NDArray[np.intp], out: Any, channels: int, stream: Any = 0) -> None:
    """Copy a part's values, flat on the device, to its columns of a picture of so many channels. Does not wait."""
    where = load().to_device(columns.astype(np.int64))
    Upload().before(stream)
    blocks = enough(-(-values.shape[0] // _THREADS))
    _compiled()[blocks, _THREADS, stream](values, where, channels, out)
    hold(stream, values, where, out)
