"""What stands in for missing packages when the published code is run beside igs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import published
from rd import metrics


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[published.StandIns]:
    finder = published.StandIns({"absent.part": {"half": lambda x: x / 2}})
    finder.used = ["absent"]
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    yield finder
    for name in [m for m in sys.modules if m.split(".")[0] == "absent"]:
        del sys.modules[name]


def test_ssim_has_the_windows_and_constants_of_the_metric(image: torch.Tensor) -> None:
    noisy = (image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    whole = torch.nn.functional.pad(image, (5,) * 4), torch.nn.functional.pad(noisy, (5,) * 4)
    a, b = (x[0].permute(1, 2, 0).double().numpy() for x in whole)
    mean_a, mean_b = metrics.smooth(a), metrics.smooth(b)
    variances = metrics.smooth(a * a) - mean_a**2 + metrics.smooth(b * b) - mean_b**2
    covariance = metrics.smooth(a * b) - mean_a * mean_b
    expected = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    expected *= (2 * covariance + 9e-4) / (variances + 9e-4)
    assert published.plain_ssim(image, noisy).item() == pytest.approx(float(np.mean(expected)), abs=1e-5)
    assert published.plain_ssim(image, image).item() == pytest.approx(1, abs=1e-6)


def test_blur_keeps_means_and_smooths(image: torch.Tensor) -> None:
    flat = torch.full((3, 20, 20), 0.25)
    assert torch.allclose(published.gaussian_blur(flat, 5), flat, atol=1e-6)
    assert published.gaussian_blur(image[0], 5).std() < image.std() / 2


def test_a_missing_package_gives_nothing_but_what_is_given(stand_ins: published.StandIns) -> None:
    package = importlib.import_module("absent")
    part = importlib.import_module("absent.part")
    assert part.half(3) == 1.5
    package.settings["font"] = 1
    assert isinstance(part.Anything(3)[2].more, published.Nothing)


def test_only_what_is_missing_gets_a_stand_in(stand_ins: published.StandIns) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("absent_too")
    assert "scipy" not in published.StandIns({}).used


def test_configuration_is_read_with_its_types(tmp_path: Path) -> None:
    (tmp_path / "cfgs").mkdir()
    text = 'seed:   123\ndevice: "cuda:0"\n# Targets\ngamma:  1.0 # a # b\ndownsample: False\npos_lr: 5.0e-4\n'
    (tmp_path / "cfgs" / "default.yaml").write_text(text)
    found = published.configuration(tmp_path)
    assert found == {"seed": 123, "device": "cuda:0", "gamma": 1.0, "downsample": False, "pos_lr": 5e-4}


def test_a_failure_tells_what_the_program_said(tmp_path: Path) -> None:
    with pytest.raises(published.Failed, match=r"found no cfgs/default\.yaml"):
        published.measure(tmp_path, np.zeros((8, 8, 3), np.uint8), 4, 2)
