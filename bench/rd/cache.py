"""Every measured point as a small JSON file of its own, so that a run can stop anywhere and go on later.

A point is known by the picture's values, the codec's family, its settings and the metrics' definition, and by the
codec's version. The version stands last in the file's name: points of other versions can be found and, if asked for,
accepted.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rd.metrics import DEFINITION


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Key:
    """What a point is a function of."""

    family: str
    version: str
    picture: str  # sets.fingerprint
    settings: dict[str, Any]

    @property
    def stem(self) -> str:
        """The file's name without what comes of the version."""
        point = _digest([self.family, self.picture, self.settings, DEFINITION])[:24]
        return f"{self.family.replace('/', '_')}-{self.picture[:8]}-{point}"

    @property
    def file(self) -> str:
        return f"{self.stem}-{_digest(self.version)[:8]}"


@dataclass
class Record:
    """A point as stored: the key's parts, `bytes`, `bpp`, the metrics, times and the encoder's details."""

    values: dict[str, Any]
    stale: bool  # measured with another version of the codec
    data: bytes | None  # the encoded picture, where it is kept


class Store:
    """A folder of points. Safe for several processes: files appear whole."""

    def __init__(self, folder: Path, accept_stale: bool = False) -> None:
        self.folder = folder
        self.accept_stale = accept_stale

    def find(self, key: Key) -> Record | None:
        """The point, or the youngest one of another version if stale points are accepted; a damaged file is none."""
        exact = self.folder / f"{key.file}.json"
        if (values := _read(exact)) is not None:
            return Record(values, False, _bytes(exact))
        if self.accept_stale:
            others = sorted(self.folder.glob(f"{key.stem}-*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
            for path in others:
                if (values := _read(path)) is not None:
                    return Record(values, True, _bytes(path))
        return None

    def save(self, key: Key, values: dict[str, Any], data: bytes | None = None) -> None:
        """Keep a point, and the encoded picture where it is given."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{key.file}.json"
        if data is not None:
            _write(path.with_suffix(".bin"), data)
        described = {"family": key.family, "version": key.version, "settings": key.settings}
        _write(path, json.dumps(described | values, indent=1).encode())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _bytes(path: Path) -> bytes | None:
    try:
        return path.with_suffix(".bin").read_bytes()
    except OSError:
        return None


def _write(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.replace(temporary, path)
