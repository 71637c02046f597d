"""Steps on interlaced subsets of the pixels: together they are the step on all of them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from igs.encoder import encode
from igs.encoder.fitting import interlace
from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.interlace import ORDER, Interlace, suits
from igs.encoder.presets import PRESETS
from igs.encoder.raster import kernels
from igs.encoder.raster.kernel_backend import KernelBackend
from igs.encoder.raster.loss import LossWeights
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.shapes import parameters
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.recipe import Recipe

BACKENDS = [
    TorchBackend,
    pytest.param(KernelBackend, marks=pytest.mark.skipif(not kernels.available(), reason="needs the compiled kernels")),
]


def gaussians(n: int, side: float, scale_map: str = "log") -> Model:
    generator = torch.Generator().manual_seed(1)
    sigma, turn = torch.rand(n, 2, generator=generator) * 4 + 2, torch.rand(n, generator=generator)
    scale, rotation = parameters(sigma, turn, scale_map)
    position = torch.rand(n, 2, generator=generator) * side
    return Model(position, scale, rotation, torch.rand(n, 3, generator=generator), scale_map)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale_map", ["log", "inverse", "raw", "cholesky", "covariance"])
def test_the_mean_of_all_subsets_is_the_whole(backend, scale_map, weighted):
    width, height = 72, 64  # even: subsets of one size
    generator = torch.Generator().manual_seed(2)
    target = torch.rand(3, height, width, generator=generator)
    model = gaussians(12, 70.0, scale_map)
    # Few Gaussians, so that there are empty pixels, which pull.
    options = RasterOptions(width, height, "topk", 8, 9.0, 7.0, 0.3 / (width * height), 0.8)
    there = backend()
    map_ = torch.rand(height, width, generator=generator) + 0.5 if weighted else None
    weights = LossWeights(0.3, 1.0, 0.0, map_)
    whole = there.step(model, options, target, weights)
    subsets = Interlace(target, weights)
    parts = [subsets.step(there, model, options, turn) for turn in range(4)]
    assert np.mean([p.mse for p in parts]) == pytest.approx(whole.mse, rel=1e-5)
    assert np.mean([p.loss for p in parts]) == pytest.approx(whole.loss, rel=1e-5)
    for k, expected in enumerate(whole.grads):
        found = torch.stack([p.grads[k] for p in parts]).mean(0)
        # Worst seen 2e-4 of the largest, where a sum over few pixels cancels.
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.skipif(not kernels.available(), reason="needs the compiled kernels")
@pytest.mark.parametrize("scale_map", ["log", "inverse", "raw", "cholesky", "covariance"])
def test_the_pullbacks_of_all_subsets_are_the_whole(scale_map):
    width, height = 72, 67
    picture = torch.randn(3, height, width, generator=torch.Generator().manual_seed(3))
    model, options = gaussians(12, 70.0, scale_map), RasterOptions(width, height, "topk", 8, 9.0, 7.0)
    weights = torch.rand(height, width) + 0.5
    whole = KernelBackend().pullback(model, options)
    assert whole is not None
    total = [torch.zeros_like(t) for t in model.tensors()]
    subsets = Interlace(picture, LossWeights(0.0, 1.0, 0.0)).pullbacks(KernelBackend(), model, options, weights)
    for (left, top), (pullback, shape, weight) in zip(ORDER, subsets, strict=True):
        part = picture[:, top::2, left::2].contiguous()
        assert part.shape == shape
        assert weight is not None
        assert torch.equal(weight, weights[top::2, left::2])
        for sum_, grad in zip(total, pullback(part), strict=True):
            sum_ += grad
    for found, expected in zip(total, whole(picture), strict=True):
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_without_pullbacks_there_are_none():
    model, options = gaussians(3, 70.0), RasterOptions(72, 64, "topk", 8, 9.0, 7.0)
    subsets = Interlace(torch.zeros(3, 64, 72), LossWeights(0.0, 1.0, 0.0))
    assert list(subsets.pullbacks(TorchBackend(), model, options)) == []


def test_the_subsets_are_all_pixels_once():
    target = torch.rand(1, 67, 70)
    subsets = Interlace(target, LossWeights(0.0, 1.0, 0.0))
    seen = torch.zeros(67, 70)
    for left, top in ORDER:
        part, _ = subsets._subset(left, top)
        assert torch.equal(part, target[:, top::2, left::2])
        assert part.is_contiguous()
        seen[top::2, left::2] += 1
    assert bool((seen == 1).all())


@pytest.mark.parametrize(
    ("width", "height", "gaussians", "expected"),
    [
        (2048, 2048, 65536, True),  # 1024² / 16
        (2048, 2048, 65537, False),
        (1000, 1000, 1, True),
        (999, 1000, 1, False),  # too small to be worth it
        (32, 40_000, 1, True),
        (31, 40_000, 1, False),  # a subset has a tile at least
    ],
)
def test_what_it_is_for(width, height, gaussians, expected):
    assert suits(width, height, gaussians) is expected


@pytest.fixture
def worth_it(monkeypatch):
    """Pictures small enough for tests count as large."""
    monkeypatch.setattr(interlace, "LEAST_PIXELS", 1)


def picture(side: int) -> np.ndarray:
    """An edge and a ramp."""
    y, x = np.mgrid[:side, :side] / side
    edge = np.clip((x + 0.4 * y - 0.6) * side / 2 + 0.5, 0, 1)
    return np.stack([0.2 + 0.3 * x, 0.2 + 0.5 * edge, 0.8 - 0.5 * y], axis=2).astype(np.float32)


def clouds(side: int) -> np.ndarray:
    """Noise with much of its energy at low frequencies, of which chance in a fit decides little."""
    rng, frequencies = np.random.default_rng(5), np.fft.fftfreq(side)
    size = np.maximum(np.hypot(frequencies[:, None], frequencies), 1 / side) ** 1.5
    planes = [np.fft.ifft2(np.exp(2j * np.pi * rng.random((side, side))) / size).real for _ in range(3)]
    pixels = np.stack(planes, axis=2)
    return ((pixels - pixels.min()) / np.ptp(pixels)).astype(np.float32)


def test_who_sees_all_pixels(worth_it):
    target = torch.from_numpy(np.ascontiguousarray(picture(96).transpose(2, 0, 1)))

    def interlaced(step: int, n: int = 4, **fields: object) -> bool:
        fit = Fit(target, n, Recipe(growth=False, steps=100, **fields), TorchBackend())
        fit.state.step = step
        return fit.interlaced(fit.recipe.interlace)

    assert interlaced(0)
    assert interlaced(49, interlace=0.5)
    assert not interlaced(50, interlace=0.5)
    assert not interlaced(0, interlace=0.0)
    assert not interlaced(0, loss_ssim=0.1)  # whose windows are of neighbours
    assert not interlaced(0, n=200)


def test_large_pictures_get_more_steps(worth_it):
    def steps(**settings: object) -> int:
        return encode(picture(64), num_gaussians=8, effort=1, **settings).report["steps"]

    plain = steps(interlace=0.0)
    assert steps() == round(interlace.STEPS * plain)
    assert steps(steps=plain) == plain
    assert steps(tune="ms-ssim") == steps()
    assert steps(loss_ssim=0.1) == plain  # whose steps see all pixels


def test_published_recipes_see_all_pixels():
    assert {name for name, recipe in PRESETS.items() if recipe.interlace} == {"default"}


@pytest.mark.skipif(not kernels.available(), reason="needs the compiled kernels")
@pytest.mark.parametrize("coding", ["plain", "lattice"])
@pytest.mark.parametrize("share", [0.95, 1.0])
def test_a_fit_of_subsets_is_as_good(coding, share, worth_it):
    def psnr(share: float) -> float:
        return encode(clouds(128), num_gaussians=60, steps=200, coding=coding, interlace=share).report["psnr"]

    assert psnr(share) > psnr(0.0) - 0.3  # measured over six seeds: −0.09 to +0.09 dB
