"""Metadata of an open picture by section type (spec §10), read when asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from igs.format.errors import InvalidFile


class Metadata(Mapping[str, Any]):
    """Metadata by section type, read when asked for.

    ``json`` is the parsed object and ``soft`` a string; ``exif``, ``iccp``, ``xmpd`` and unknown types are bytes.
    Asking for one that does not hold what its type promises raises InvalidFile.
    """

    def __init__(self, sections: Mapping[str, bytes]) -> None:
        self._sections = sections

    def __getitem__(self, name: str) -> Any:
        data = self._sections[name]
        try:
            if name == "json":
                return json.loads(data.decode("utf-8"))
            return data.decode("utf-8") if name == "soft" else data
        except (ValueError, RecursionError) as error:
            expected = "a JSON object in UTF-8" if name == "json" else "UTF-8"
            raise InvalidFile("E_SECTION_CONTENT", f"section {name}: expected {expected}, found {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._sections)

    def __len__(self) -> int:
        return len(self._sections)
