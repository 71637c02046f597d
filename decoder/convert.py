"""float32 → unsigned integers: clamped to [0, 1], scaled, rounded half up (spec §8.3)."""

from __future__ import annotations

import numpy as np

from igs.decoder.jit import kernel


@kernel
def to_unsigned(values, out):  # type: ignore[no-untyped-def]
    """values: float32 [m]; out: uint8 or uint16 [m]. ⌊clamp(v, 0, 1)·(2^bits − 1) + ½⌋ in binary32."""
    top = np.float32(255.0) if out.itemsize == 1 else np.float32(65535.0)
    for i in range(len(values)):
        value = values[i]
        value = value if value > np.float32(0.0) else np.float32(0.0)
        value = value if value < np.float32(1.0) else np.float32(1.0)
        out[i] = np.int32(value * top + np.float32(0.5))
