"""Constants that kernels for the CPU and for the GPU share: those of both are compiled anew when this file changes."""

from __future__ import annotations

import numpy as np

NOWHERE = np.int32(-(1 << 31))  # x of a point outside the representable range: its value is the background
# Bounds on d² are evaluated in binary32 like d² itself, each within 1.5e-3 of the exact value (elongation 4096, spec
# §6.2: the two terms of u are up to 2049 times d and each is rounded 3 times). A bound compares two d² and two such
# bounds.
SLACK = np.float32(1.0 + 2.0**-6)
