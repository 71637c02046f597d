"""Validation of a whole file: every part, every chunk, every checksum, with all findings instead of the first.

The checks themselves are the reader's; this module runs all of them and collects what they say. Codes: spec §13.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from igs.format.error_codes import CODES
from igs.format.errors import InvalidFile
from igs.format.limits import Limits
from igs.format.reader import FileReader, open_file
from igs.format.sections import content_problem

MAX_FINDINGS = 100  # a file with more is broken enough; bounds the report


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing. severity: error or warning. offset: byte in the file, or None.

    message: what was expected and found, and in which chunk or section; without code and offset.
    """

    code: str
    number: int
    severity: str
    message: str
    offset: int | None
    expected: str
    found: str


@dataclasses.dataclass(frozen=True)
class Report:
    """All findings about a file. ``valid``: no errors among them. ``exit_code`` as the commands return it."""

    findings: tuple[Finding, ...]
    exit_code: int
    checked_chunks: int = 0
    checked_gaussians: int = 0

    @property
    def valid(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return not any(f.severity == "error" for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "valid": self.valid,
            "checked_chunks": self.checked_chunks,
            "checked_gaussians": self.checked_gaussians,
            "findings": [dataclasses.asdict(f) for f in self.findings],
        }


class _Collector:
    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.exit_code = 0

    def run(self, check: Callable[[], Any]) -> Any:
        """The result of ``check``, or None after noting the InvalidFile that it raised."""
        try:
            return check()
        except InvalidFile as error:
            self.note(error)
            return None

    def note(self, error: InvalidFile, severity: str = "error") -> None:
        number = CODES[error.code].number
        if len(self.findings) < MAX_FINDINGS:
            found = Finding(error.code, number, severity, error.message, error.offset, error.expected, error.found)
            if found not in self.findings:
                self.findings.append(found)
        if severity == "error":
            # Unsupported (5) only if nothing is plainly invalid (3).
            self.exit_code = error.exit_code if self.exit_code in (0, error.exit_code) else 3

    @property
    def full(self) -> bool:
        return len(self.findings) >= MAX_FINDINGS


def validate_file(source: Any, limits: Limits | None = None) -> Report:
    """Check everything about a file (path, bytes, file object).

    Never raises for a bad file; InputError if it can't be read.
    """
    notes = _Collector()
    file: FileReader | None = None
    try:
        file = open_file(source, limits)
    except InvalidFile as error:
        notes.note(error)
        if error.code == "E_TRUNCATED":  # look at what there is
            file = notes.run(lambda: open_file(source, limits, allow_partial=True))
    if file is None:
        return Report(tuple(notes.findings), notes.exit_code)
    with file:
        chunks, gaussians = _check_file(file, notes)
    return Report(tuple(notes.findings), notes.exit_code, chunks, gaussians)


def _check_file(file: FileReader, notes: _Collector) -> tuple[int, int]:
    if file.partial and not notes.findings:
        present, levels = file.available_levels, len(file.head.level_chunks)
        text = f"expected {file.file_bytes} bytes, found {present} of {levels} levels"
        notes.note(InvalidFile("W_PARTIAL", text, None), severity="warning")
    chunks = gaussians = 0
    last = file.level_range(file.available_levels - 1)[1]
    for chunk in range(last):
        if notes.full:
            break
        part = notes.run(partial(file.gaussians, chunk))
        if part is not None:
            chunks += 1
            gaussians += len(part)
    if not notes.full:
        notes.run(file.load_index)  # blocks of levels that a partial file lacks
    for name in file.sections:
        data = notes.run(partial(file.sections.__getitem__, name))
        problem = None if data is None else content_problem(name, data)
        if problem is not None:
            expected, found = problem
            error = InvalidFile("E_SECTION_CONTENT", f"section {name}: expected {expected}, found {found}", None)
            error.offset, error.expected, error.found = file.sections.entries[name].offset, expected, found
            notes.note(error)
    return chunks, gaussians
