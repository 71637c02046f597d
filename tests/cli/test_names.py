"""Names that are no files: empty ones, pipes where only a file will do, and what messages make of odd ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., bytes]


@pytest.mark.parametrize("option", ["--log", "--report", "--checkpoint", "--saliency-map"])
def test_options_take_files_and_no_pipes(cli: Any, picture: Path, tmp_path: Path, option: str) -> None:
    result = cli("igs-encode", picture, tmp_path / "out.igs", "-e", 1, option, "-")
    assert result.code == 1, result.err
    assert f"{option}: expected the name of a file, found -" in result.err
    assert not Path("-").exists()


def test_an_empty_name_is_told_of(cli: Any, picture: Path, tmp_path: Path) -> None:
    result = cli("igs-encode", "", tmp_path / "out.igs")
    assert result.code == 1
    assert "IN: expected the name of a file, found an empty one" in result.err


def test_a_message_is_one_line(cli: Any, tmp_path: Path) -> None:
    result = cli("igs-decode", "no\npe.igs", tmp_path / "out.png")
    assert result.code == 2
    assert result.err.count("\n") == 1


def test_json_is_ascii(cli: Any, igs_bytes: Make, tmp_path: Path) -> None:
    path = tmp_path / "ö.igs"
    path.write_bytes(igs_bytes())
    result = cli("igs-decode", path, tmp_path / "\N{GRINNING FACE}.png", "--json")
    assert result.code == 0, result.err
    assert result.out.isascii()
    assert json.loads(result.out)["output"].endswith("\N{GRINNING FACE}.png")


def test_sizes_are_told_in_units_that_show_them(cli: Any, igs_bytes: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.igs"
    path.write_bytes(igs_bytes())
    result = cli("igs-decode", path, tmp_path / "a.png", "--scale", 8, "--memory-limit", "50k")
    assert result.code == 1
    assert "the limit is 50.0 KiB" in result.err
    result = cli("igs-encode", path, "x.igs", "-n", 0)
    assert "expected 1 to 16777216, found 0" in result.err
