"""What an error at each pixel counts, structure included (encoder/fitting/error_weight.py)."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the encoder: pip install '.[encoder]'")

from igs.encoder.fitting.error_weight import error_weight
from igs.encoder.fitting.fit import Fit
from igs.encoder.raster import multiscale, reference
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.recipe import Recipe


def busy_at_the_right(height: int = 96, width: int = 128) -> torch.Tensor:
    """A picture [3, H, W] of noise whose contrast grows from 0 at the left to 0.2 at the right."""
    noise = torch.randn(3, height // 4, width // 4, generator=torch.Generator().manual_seed(0))
    noise = noise.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return 0.5 + 0.2 * torch.linspace(0, 1, width) * noise


def smooth_error(x: int, y: int) -> torch.Tensor:
    """A small error over 32 × 32 pixels, of mean zero and with most of its power in waves of 16 pixels."""
    error = torch.zeros(3, 96, 128)
    wave = torch.sin(torch.arange(32) * torch.pi / 8)
    error[:, y : y + 32, x : x + 32] = 1e-3 * wave[:, None] * wave
    return error


def test_it_is_what_ssim_says_of_small_errors() -> None:
    """Relative to each other: how much of an error is left in reduced pictures is taken from files, not from waves.

    Measured: what they cost spans 12.8 times, and is 0.73 to 1.45 times what the weights say.
    """
    target = busy_at_the_right()
    weight = error_weight(target, 1e-9, 1.0, None)  # of structure alone
    assert weight is not None
    costs, ratios = [], []
    for x in (16, 48, 96):
        for y in (8, 32, 56):
            error = smooth_error(x, y)
            costs.append(float(multiscale.loss_reference(target + error, target, reference.ssim_map_reference)))
            ratios.append(costs[-1] / float((weight * error.square().mean(0)).mean()))
    mean = sum(ratios) / len(ratios)
    assert max(costs) > 8 * min(costs)
    assert all(mean / 1.6 < ratio < 1.6 * mean for ratio in ratios)


def test_it_counts_more_where_there_is_little_to_see() -> None:
    weight = error_weight(busy_at_the_right(), 1.0, 0.005, None)
    assert weight is not None
    assert weight.shape == (96, 128)
    assert float(weight.mean()) == pytest.approx(1.0)
    columns = weight.mean(0)
    assert columns[10] > 2 * columns[64] > 2.2 * columns[118]  # measured: 2.6 and 2.8 times


def test_pictures_together_are_each_by_itself() -> None:
    pictures = torch.stack([busy_at_the_right(), busy_at_the_right().flip(2).square()])
    together = error_weight(pictures, 1.0, 0.005, None)
    assert together is not None
    for found, picture in zip(together, pictures, strict=True):
        alone = error_weight(picture, 1.0, 0.005, None)
        assert alone is not None
        torch.testing.assert_close(found, alone)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (21, 300), (23, 45), (97, 131)])
def test_any_size_will_do(height: int, width: int) -> None:
    picture = torch.rand(2, height, width, generator=torch.Generator().manual_seed(1))
    weight = error_weight(picture, 1.0, 0.005, None)
    assert weight is not None
    assert weight.shape == (height, width)
    assert float(weight.min()) > 0
    if min(height, width) < 22:  # no window fits into a reduced picture
        assert torch.equal(weight, torch.ones(height, width))


def test_weights_of_the_loss_multiply_it() -> None:
    target, map_ = busy_at_the_right(), torch.ones(96, 128)
    map_[:48] = 3.0
    map_ /= map_.mean()
    assert error_weight(target, 1.0, 0.0, None) is None
    assert error_weight(target, 1.0, 0.0, map_) is map_
    assert error_weight(target, 0.0, 0.005, map_) is map_  # a loss by absolute error
    alone, both = error_weight(target, 1.0, 0.005, None), error_weight(target, 1.0, 0.005, map_)
    assert alone is not None
    assert both is not None
    torch.testing.assert_close(both[0] / both[-1], 3 * alone[0] / alone[-1])


@pytest.mark.parametrize("ms_ssim", [0.0, 0.005])
def test_gaussians_are_kept_and_come_where_errors_count(ms_ssim: float) -> None:
    target = busy_at_the_right(48, 64)
    fit = Fit(target, 20, Recipe(steps=10, growth=False, growth_blur=0.0, loss_ms_ssim=ms_ssim), TorchBackend())
    image = fit.backend.render(fit.state.model, fit.options)
    error = (target - image).abs().sum(0)
    found, _ = fit._error(image)
    weight = 1.0 if fit.error_weight is None else fit.error_weight
    torch.testing.assert_close(found[0], error * weight**0.5)
    assert (fit.error_weight is None) == (ms_ssim == 0)
    costs = fit.removal_costs(fit.state.model)
    plain = fit.backend.removal_costs(fit.state.model, fit.options, target)
    assert (float((costs / plain).std()) < 0.3) == (ms_ssim == 0)
