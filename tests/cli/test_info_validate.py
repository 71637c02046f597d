"""igs-info and igs-validate: text, JSON, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., bytes]


@pytest.fixture
def igs_file(tmp_path: Path, igs_bytes: Make) -> Path:
    path = tmp_path / "in.igs"
    path.write_bytes(igs_bytes())
    return path


def test_info(cli: Any, igs_file: Path) -> None:
    result = cli("igs-info", igs_file)
    assert (result.code, result.err) == (0, "")
    assert result.text.startswith("40 × 30 pixels, 3 channels\n60 Gaussians of ")
    assert "chunk" in cli("igs-info", igs_file, "--chunks").text.splitlines()[-2]
    found = cli("igs-info", "-", "--json", stdin=igs_file.read_bytes()).json
    assert (found["width"], found["height"], found["channels"], found["num_gaussians"]) == (40, 30, 3, 60)
    assert found["input"] == "-"


def test_info_of_a_partial_file(cli: Any, igs_bytes: Make) -> None:
    from igs.format import open_file

    data = igs_bytes(levels=2)
    with open_file(data) as reader:
        end = reader.levels[0].end
    result = cli("igs-info", "-", stdin=data[:end])
    assert (result.code, "partial" in result.err) == (0, True)
    assert cli("igs-info", "-", "--json", "--allow-partial", stdin=data[: end + 1]).json["partial"] is True


@pytest.mark.parametrize("name", ["igs-info", "igs-validate"])
def test_exit_codes(cli: Any, igs_file: Path, name: str) -> None:
    assert cli(name, igs_file).code == 0
    assert cli(name).code == 1
    assert cli(name, "none.igs").code == 2
    assert cli(name, "-", stdin=b"").code == 2
    assert cli(name, "-", stdin=igs_file.read_bytes()[:-1]).code == 3
    assert cli(name, "-", stdin=igs_file.read_bytes() + b"\0").code == 3
    assert cli(name, igs_file, "--size-limit", 10).code == 3


def test_validate(cli: Any, igs_file: Path) -> None:
    assert cli("igs-validate", igs_file).text == f"{igs_file}: valid\n"
    assert cli("igs-validate", igs_file, "--quiet").text == ""
    data = bytearray(igs_file.read_bytes())
    data[-1] ^= 1
    result = cli("igs-validate", "-", stdin=bytes(data))
    assert result.code == 3
    assert "standard input: error: E_CHUNK_CRC" in result.text
    found = cli("igs-validate", "-", "--json", stdin=bytes(data)).json
    assert list(found) == ["input", "valid", "checked_chunks", "checked_gaussians", "findings"]
    assert found["valid"] is False
    assert set(found["findings"][0]) >= {"code", "severity", "message", "offset", "expected", "found"}


def test_validate_reports_every_file(cli: Any, igs_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.igs"
    bad.write_bytes(b"\x89IGS\r\n\x1a\n")
    result = cli("igs-validate", bad, tmp_path / "none.igs", igs_file, "--json")
    assert result.code == 3
    lines = [json.loads(line) for line in result.text.splitlines()]
    assert [line.get("valid") for line in lines] == [False, None, True]
    assert lines[1]["exit_code"] == 2
    assert cli("igs-validate", igs_file, tmp_path / "none.igs").code == 2


def test_settings_are_shown_without_what_a_terminal_obeys(cli: Any, tmp_path: Path, igs_bytes: Any) -> None:
    path = tmp_path / "a.igs"
    path.write_bytes(igs_bytes(sections={"soft": "igs: igs-encode --bpp 0.2 \x1b[31mé".encode()}))
    assert "igs: igs-encode --bpp 0.2 \ufffd[31mé" in cli("igs-info", path).text
