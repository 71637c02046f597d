"""Makes the builders beside the conformance set importable, and reads its files."""

from __future__ import annotations

import lzma
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))


def load(path: Path) -> bytes:
    """The bytes of a .igs or .igs.xz file."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data
