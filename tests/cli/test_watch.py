"""igs-encode --report, --film and --render-growth, with a short real fit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the encoder needs torch")

SHORT = ("-n", "24", "--steps", "40", "--quiet")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    y, x = np.mgrid[0:30, 0:40]
    pixels = np.stack([x * 6, y * 8, (x + y) * 3, np.where(x > 5, 255, 90)], axis=2).astype(np.uint8)
    path = tmp_path / "in.png"
    Image.fromarray(pixels).save(path)  # with alpha
    return path


def test_everything_to_look_at(cli: Any, picture: Path, tmp_path: Path) -> None:
    out, page, film, folder = (tmp_path / name for name in ("a.igs", "a.html", "a.gif", "growth"))
    args = ("--report", page, "--film", film, "--render-growth", "--render-dir", folder)
    assert cli("igs-encode", picture, out, *SHORT, *args).code == 0
    plain = tmp_path / "plain.igs"
    assert cli("igs-encode", picture, plain, *SHORT).code == 0
    assert plain.read_bytes() == out.read_bytes()
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "in.png" in text
    assert "How it got there" in text
    command = shlex.join(["igs-encode", str(picture), str(out), "-n", "24", "--steps", "40"])
    assert f"<code>{command}</code>" in text
    with Image.open(film) as moving:
        assert moving.n_frames > 10
    names = sorted(p.name for p in folder.iterdir())
    assert names[0] == "growth_000000.png"
    assert len(names) > 2
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("a.gif", "a.html", "a.igs", "growth", "in.png", "plain.igs")
    ]


def test_the_command_in_the_report_has_the_regions(cli: Any, picture: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "a.igs", tmp_path / "a.html"
    regions = ["--roi", "1,2,9,9:2.5", "--roi", "20,2,9,9", "--saliency-weight", "3"]
    assert cli("igs-encode", picture, out, *SHORT, "--report", page, *regions).code == 0
    text = page.read_text(encoding="utf-8")
    assert "--roi 1,2,9,9:2.5 --roi 20,2,9,9:4 --saliency-weight 3" in text
    assert "1,2,9,9:2.5 20,2,9,9:4" in text


def test_a_report_from_a_pipe(cli: Any, picture: Path, tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    result = cli("igs-encode", "-", "-", *SHORT, "--report", page, stdin=picture.read_bytes())
    assert result.code == 0
    assert result.out.startswith(b"\x89IGS")
    assert "standard input" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--film", "a.mp4"], 1, ".webp or .gif"),
        (["--report", "in.png"], 1, "same file"),
        (["--report", "a.igs"], 1, "another output"),
        (["--report", "b.gif", "--film", "b.gif"], 1, "another output"),
        (["--report", "none/a.html"], 2, "none/a.html"),
        (["--render-growth"], 1, "--render-dir"),
        (["--render-growth", "--render-dir", "in.png"], 1, "in.png"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_messages_come_before_the_fit(
    cli: Any, picture: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(picture.parent)
    monkeypatch.setattr("igs.cli.encode.load_encoder", None)  # would be called
    result = cli("igs-encode", "in.png", "a.igs", *args)
    assert result.code == code, result.err
    assert words in result.err
    assert [p.name for p in picture.parent.iterdir()] == ["in.png"]


def test_one_picture_only(cli: Any, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(picture.read_bytes())
    result = cli("igs-encode", picture, tmp_path / "b.png", "-d", tmp_path / "out", "--report", tmp_path / "a.html")
    assert result.code == 1
    assert "--report" in result.err
