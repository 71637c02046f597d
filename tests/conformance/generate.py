"""Writes the conformance set: `python tests/conformance/generate.py`. Only for a new draft: vectors are not to change.

invalid/<number>_<E_NAME>[_detail].igs must be refused with that code; a .json beside one gives the limits to use.
valid/<case>.igs must open; <case>.json holds the values that it must have (expected.py, README.md).
Files above 4 KiB, and those that need other limits than the defaults, are stored as .igs.xz: all .igs simply open.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import expected
import invalid_cases
import valid_cases

MAX_PLAIN = 4096


def stored(path: Path, data: bytes, packed: bool = False) -> None:
    """Write a file, compressed if it is large or asked for."""
    if packed or len(data) > MAX_PLAIN:
        path.with_name(path.name + ".xz").write_bytes(lzma.compress(data, preset=9))
    else:
        path.write_bytes(data)


def main() -> None:
    """Write everything anew."""
    for folder in ("valid", "invalid"):
        (HERE / folder).mkdir(exist_ok=True)
        for old in (HERE / folder).iterdir():
            old.unlink()
    for name, data, limits in invalid_cases.cases():
        stored(HERE / "invalid" / f"{name}.igs", data)
        if limits:
            (HERE / "invalid" / f"{name}.json").write_text(json.dumps(limits) + "\n")
    for name, data in valid_cases.cases():
        stored(HERE / "valid" / f"{name}.igs", data, name in expected.LIMITS)
        (HERE / "valid" / f"{name}.json").write_text(json.dumps(expected.expectation(name, data)) + "\n")


if __name__ == "__main__":
    main()
