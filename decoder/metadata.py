"""Metadata of an open picture by section type (spec §10), read when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from igs.format.errors import InvalidFile
from igs.format.sections import content_problem, parse_json


class Metadata(Mapping[str, Any]):
    """Metadata by section type, read when asked for.

    ``json`` is the parsed object and ``soft`` a string; ``exif``, ``iccp``, ``xmpd`` and unknown types are bytes.
    Asking for one that does not hold what its type promises raises InvalidFile.
    """

    def __init__(self, sections: Mapping[str, bytes]) -> None:
        self._sections = sections

    def __getitem__(self, name: str) -> Any:
        data = self._sections[name]
        problem = content_problem(name, data)
        if problem is not None:
            expected, found = problem
            raise InvalidFile("E_SECTION_CONTENT", f"section {name}: expected {expected}, found {found}")
        if name == "json":
            return parse_json(data)
        return data.decode("utf-8") if name == "soft" else data

    def __contains__(self, name: object) -> bool:
        return name in self._sections  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self._sections)

    def __len__(self) -> int:
        return len(self._sections)
