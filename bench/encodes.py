"""Encodes that are made once: the file and the report of igs.encode, kept in bench/cache/encodes.

Keyed by the picture's values, the settings and a hash of igs' sources: no table mixes two states of the encoder.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import common
import numpy as np
from common import sources_version

CACHE = common.REPO / "bench" / "cache" / "encodes"
MAY_FIT = True  # False: what is not kept is an error, where time is dear


def encode_once(
    pixels: np.ndarray, maps: tuple[tuple[str, int], ...] = (), **settings: Any
) -> tuple[bytes, dict[str, Any]]:
    """(file, report); settings are those of igs.encode. How many threads there are does not count.

    maps: names and numbers of channels, where pixels [H, W, C] are a stack of them.
    """
    told = {k: v for k, v in settings.items() if k != "threads"}
    about = json.dumps(
        [sources_version(), pixels.shape, str(pixels.dtype), *([maps] if maps else []), told], sort_keys=True
    )
    key = hashlib.sha256(about.encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
    path = CACHE / f"{key[:24]}.igs"
    report = path.with_suffix(".json")
    if not report.exists():  # which is written last
        if not MAY_FIT:
            raise SystemExit(f"{path}: expected this file, fitted before by igs of these sources, found none")
        # Here, since it loads PyTorch: a benchmark of the decoder does without once all files are there.
        from igs.encoder import encode

        CACHE.mkdir(parents=True, exist_ok=True)
        ends = np.cumsum([count for _, count in maps])
        names = [name for name, _ in maps]
        stack = dict(zip(names, np.split(pixels, ends[:-1], axis=2), strict=True)) if maps else pixels
        encoded = encode(stack, **settings)
        path.write_bytes(encoded.data)
        temporary = report.with_suffix(f".{key[24:32]}.tmp")
        temporary.write_text(json.dumps(encoded.report))
        temporary.replace(report)
    return path.read_bytes(), json.loads(report.read_text())
