"""Checkpoints with something wrong in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]


def changed(source: Path, target: Path, change: Callable[[Arrays, dict[str, Any]], object]) -> Path:
    """A copy of a checkpoint with something changed in its arrays or scalars."""
    with np.load(source) as f:
        arrays = {name: f[name] for name in f.files}
    scalars = json.loads(arrays["scalars"].tobytes())
    change(arrays, scalars)
    if "scalars" in arrays:
        arrays["scalars"] = np.frombuffer(json.dumps(scalars).encode(), np.uint8)
    np.savez(target, **arrays)
    return target


def array(name: str, change: Callable[[Any], Any]) -> Callable[[Arrays, Any], None]:
    return lambda arrays, scalars: arrays.update({name: change(arrays[name])})


def scalar(name: str, value: object) -> Callable[[Arrays, dict[str, Any]], None]:
    return lambda arrays, scalars: scalars.update({name: value})
