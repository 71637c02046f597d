"""bench/gpu.py where there is no GPU: what it asks for, and how it ends."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import common
import gpu
import published


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What has been measured by ``gpu.main``, whose sections do nothing but run the published code beside them."""
    names: list[str] = []
    (tmp_path / "cfgs").mkdir()
    (tmp_path / "cfgs" / "default.yaml").write_text("")

    def section(name: str) -> list[common.Row]:
        names.append(name)
        return gpu.beside_published(np.zeros((8, 8, 3), np.uint8), 4, 2, {}) if name == "steps" else []

    monkeypatch.setattr(gpu, "SECTIONS", {name: lambda name=name: section(name) for name in ("first", "steps")})
    monkeypatch.setattr(gpu, "CHECKOUTS", {})
    monkeypatch.setattr(gpu, "why_not", lambda: None)
    monkeypatch.setattr(gpu, "_machine", dict)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--check", "--image-gs", str(tmp_path)])
    for name in ("TINY", "FAILED"):
        monkeypatch.setattr(gpu, name, 0)
    return names


def test_the_published_code_that_gives_nothing_is_a_failure(
    called: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: Any) -> None:
        raise published.Failed("it broke")

    monkeypatch.setattr(published, "measure", fail)
    monkeypatch.setattr(common, "cannot_compile", lambda: None)
    assert gpu.main() == 1
    assert called == ["first", "steps"]
    assert "it broke" in capsys.readouterr().err


def test_missing_tools_are_seen_before_anything_is_fitted(
    called: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert gpu.main() == 1
    assert "found no ninja and no nvcc" in capsys.readouterr().err
    (tmp_path / "bin").mkdir()
    for tool in (tmp_path / "ninja", tmp_path / "bin" / "nvcc"):
        tool.write_text("")
        tool.chmod(0o755)
    assert common.cannot_compile() is None
    assert not called


@pytest.mark.parametrize("words", [["--image-gs", "nowhere"], ["first"]])
def test_what_cannot_be_run_beside_anything(called: list[str], words: list[str]) -> None:
    sys.argv += words
    with pytest.raises(SystemExit):
        gpu.main()
    assert not called


def test_all_sizes_see_all_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def make_fit(*_: Any, **changes: Any) -> Any:
        seen.append(changes)
        return SimpleNamespace(_step=lambda measured: None)

    monkeypatch.setattr(gpu, "TINY", True)
    monkeypatch.setattr(gpu, "make_fit", make_fit)
    monkeypatch.setattr(gpu, "seconds_of", lambda call: (1.0, call()))
    rows = gpu.sizes()
    assert {changes["interlace"] for changes in seen} == {0.0}
    assert all("all pixels" in row.what for row in rows[:-1])
