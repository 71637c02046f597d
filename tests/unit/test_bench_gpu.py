"""bench/gpu.py where there is no GPU: what it asks for, how it ends, and that each section runs on emulated kernels."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import common
import cuda_cases
import gpu
import gpu_sections
import published
from gpu_fits import Asked

from igs.encoder.raster import cuda_backend

TINY = Asked(tiny=True)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What has been measured by ``gpu.main``, whose sections give one row, and the published code beside the steps."""
    names: list[str] = []
    (tmp_path / "cfgs").mkdir()
    (tmp_path / "cfgs" / "default.yaml").write_text("")

    def section(name: str, asked: Asked) -> Iterator[common.Row]:
        names.append(name)
        yield common.Row(f"row of {name}", 1.0, "s")
        if asked.image_gs and name == "steps":
            pixels: Any = None
            yield from gpu_sections.beside_published(asked, pixels, 4, 2, {})

    sections = {name: lambda asked, name=name: section(name, asked) for name in ("first", "steps", "parts")}
    monkeypatch.setattr(gpu, "SECTIONS", sections)
    monkeypatch.setattr(gpu, "why_not", lambda: None)
    monkeypatch.setattr(gpu, "_machine", lambda: {"gpu": "none"})
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--image-gs", str(tmp_path)])
    return names


def test_what_was_measured_is_kept_when_a_section_breaks_off(
    called: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise published.Failed("it broke")

    monkeypatch.setattr(published, "measure", fail)
    monkeypatch.setattr(common, "cannot_compile", lambda: None)
    assert gpu.main() == 1
    assert called == ["first", "steps", "parts"]
    assert "it broke" in capsys.readouterr().err
    kept = json.loads((common.RESULTS / "gpu.json").read_text())
    assert {name: [row["what"] for row in entry["rows"]] for name, entry in kept.items()} == {
        name: [f"row of {name}"] for name in called
    }
    assert all(entry["machine"] == {"gpu": "none"} for entry in kept.values())


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


@pytest.mark.parametrize("words", [["--image-gs", "nowhere"], ["first"], ["nothing"]])
def test_what_cannot_be_run_beside_anything(called: list[str], words: list[str]) -> None:
    sys.argv += words
    with pytest.raises(SystemExit):
        gpu.main()
    assert not called


class Event:
    """As torch's."""

    def __init__(self, enable_timing: bool) -> None: ...

    def record(self) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: Event) -> float:
        return 1.0


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The sections' device: kernels on the host. What backends were opened."""
    opened: list[Any] = []

    def open_device(*, atomic: bool = False) -> Any:
        backend = cuda_cases.emulated()
        opened.append(type(backend)(backend._launcher, backend.place, name=backend.name, atomic=atomic))
        return opened[-1]

    monkeypatch.setattr(cuda_backend, "open_device", open_device)
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(published, "measure", lambda *_: {"seconds": 6.0, "psnr": 20.0, "stand_ins": ["rich"]})
    return opened


@pytest.mark.parametrize("name", [name for name in gpu_sections.SECTIONS if name != "first"])
def test_sections_run(name: str, emulated: list[Any]) -> None:
    asked = Asked(True, Path("checkout"))
    rows = list(gpu_sections.SECTIONS[name](asked))
    assert rows
    assert emulated
    assert all(isinstance(row.value, float) for row in rows)
    if name == "steps":
        assert [backend._rasterizer._frame.atomic for backend in emulated][-2:] == [1, 1]
        assert sum("the published Image-GS code, stand-ins: rich" in row.what for row in rows) == 2


def test_all_sizes_see_all_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def make_fit(*_: Any, **changes: Any) -> Any:
        seen.append(changes)
        return SimpleNamespace(_step=lambda measured: None)

    monkeypatch.setattr(gpu_sections, "make_fit", make_fit)
    monkeypatch.setattr(gpu_sections, "seconds_of", lambda call: (1.0, call()))
    rows = list(gpu_sections.sizes(TINY))
    assert {changes["interlace"] for changes in seen} == {0.0}
    assert all("all pixels" in row.what for row in rows[:-1])
