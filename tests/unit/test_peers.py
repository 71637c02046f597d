"""The presets of other Gaussian codecs: real files, their bits per Gaussian, and the options that they are made of."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

import igs
from igs.encoder import PRESETS, encode, rate
from igs.encoder.fitting import checkpoint, init
from igs.encoder.fitting.fit import Fit
from igs.encoder.raster import kernels
from igs.encoder.raster.kernel_backend import KernelBackend
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.learned import Rounding
from igs.format import Blend, Group, QuantizerKind, Shape, open_file

PEERS = {"gaussianimage": 56, "gaussianimage++": 72}
SHAPES = ("scale_rotation", "cholesky", "covariance")


def picture(width=48, height=40):
    y, x = np.mgrid[0:height, 0:width]
    planes = [0.5 + 0.4 * np.sin((x * (c + 1) + y) / 9.0) * np.cos(y / 7.0) for c in range(3)]
    return np.round(np.stack(planes, axis=2) * 255).astype(np.uint8)


def backend():
    """The fast one where it was built."""
    if kernels.available():
        kernels.set_num_threads(1)
        return KernelBackend()
    return TorchBackend()


def target():
    return torch.from_numpy(picture().astype(np.float32).transpose(2, 0, 1) / 255)


# -- files


@pytest.mark.parametrize("preset", PEERS)
def test_preset_writes_a_file_of_its_bits_per_gaussian(preset):
    image = picture()
    encoded = encode(image, preset=preset, num_gaussians=60, steps=200, codec="raw")
    reader = open_file(encoded.data)
    h = reader.header
    assert h.bits_per_gaussian == PEERS[preset] == encoded.report["bits_per_gaussian"]
    assert rate.bits_per_gaussian(PRESETS[preset], 3) == PEERS[preset]
    assert h.blend == Blend.SUM
    assert reader.num_gaussians == 60
    with igs.open(encoded.data) as im:
        error = (im.decode().astype(float) - image) / 255
    assert encoded.report["psnr"] == pytest.approx(-10 * math.log10((error**2).mean()), abs=1e-4)
    assert encoded.report["psnr"] > 14


def test_what_the_files_hold():
    headers = {p: open_file(encode(picture(), preset=p, num_gaussians=20, steps=20).data).header for p in PEERS}
    first, second = headers["gaussianimage"], headers["gaussianimage++"]
    assert (first.shape, second.shape) == (Shape.CHOLESKY, Shape.COVARIANCE)
    assert first.position.code_bits == (16, 16)
    assert first.scale.kind == first.rotation.kind == QuantizerKind.AFFINE
    assert first.scale.code_bits + first.rotation.code_bits == (6, 6, 6)
    assert first.feature.kind == QuantizerKind.CODEBOOK
    assert first.feature.code_bits == (3, 3)  # two stages of eight rows
    assert {q.kind for q in second.quantizers} == {QuantizerKind.AFFINE}
    assert second.code_bits == (12, 12, 10, 10, 10, 6, 6, 6)


@pytest.mark.parametrize("preset", PEERS)
def test_sizes_are_planned_with_the_files_own_head(preset):
    groups = (Group(channels=3),)
    recipe = dataclasses.replace(PRESETS[preset], steps=3)
    encoded = encode(picture(), preset=preset, num_gaussians=1, steps=3, codec="raw")
    header = open_file(encoded.data).header
    head = 58 + sum(4 * q.parameters.size for q in header.quantizers) + 2 * 3 + 8 + 4 + 4
    assert rate.head_bytes(recipe, groups, {}) == head
    assert len(encoded.data) == rate.smallest_file(recipe, groups, {})
    sized = encode(picture(), preset=preset, size=900, steps=3, codec="raw")
    assert 900 - PEERS[preset] / 8 - 1 <= len(sized.data) <= 900


@pytest.mark.parametrize("preset", PEERS)
@pytest.mark.parametrize("channels", [1, 4])
def test_any_channels(preset, channels):
    image = picture()[:, :, [0, 1, 2, 0][:channels]]
    encoded = encode(image, preset=preset, num_gaussians=20, steps=10)
    assert igs.open(encoded.data).decode().shape == image.shape


def test_psnr_target_with_learned_quantisers():
    report = encode(picture(), preset="gaussianimage++", psnr=18.0, steps=100).report
    assert report["psnr"] >= 18.0


@pytest.mark.parametrize("at", [50, 75, 100])
def test_resume_gives_the_same_file(tmp_path, at):
    kept = tmp_path / "kept.npz"

    def keep(fit):
        if fit.state.step == at:
            checkpoint.save(fit, kept)

    values = target()
    recipe = dataclasses.replace(PRESETS["gaussianimage"], steps=100, quantize_forward=0.4)
    whole = Fit(values, 30, recipe, backend(), on_step=keep)
    whole.run()
    again = Fit(values, 30, recipe, backend())
    checkpoint.restore(again, kept)
    again.run()
    assert again.quantizers == whole.quantizers
    for a, b in zip(again.best.tensors(), whole.best.tensors(), strict=True):
        assert torch.equal(a, b)


# -- learned quantisers


@pytest.mark.parametrize("preset", PEERS)
def test_learning_is_never_worse_than_plain_rounding(preset):
    recipe = dataclasses.replace(PRESETS[preset], steps=300, quantize_forward=0.5)
    values = target()
    plain = Fit(values, 60, recipe, backend())
    plain.run(149)
    plain._start_rounding()  # what the second half starts from
    rounded = plain.loss_of(plain.state.model)
    fit = Fit(values, 60, recipe, backend())
    fit.run()
    assert fit.best_loss < rounded


def test_quantisers_of_a_fit_without_a_quantised_part():
    encoded = encode(picture(), preset="gaussianimage++", num_gaussians=30, steps=30, quantize_forward=0.0)
    assert open_file(encoded.data).header.bits_per_gaussian == 72


def test_the_best_model_and_its_quantisers_belong_together():
    recipe = dataclasses.replace(PRESETS["gaussianimage"], steps=120)
    fit = Fit(target(), 40, recipe, backend())
    fit.run()
    rounding = Rounding(fit.best, recipe)
    rounding.load(fit.best_rounding)
    assert rounding.quantizers() == fit.quantizers
    image = fit.backend.render(rounding.round(fit.best), fit.options)
    assert float(((image - fit.target) ** 2).mean()) == pytest.approx(fit.best_loss, rel=1e-5)


# -- options, each on its own, for both blends


@pytest.mark.parametrize(
    ("blend", "shape", "lowpass_alpha", "growth_where"),
    list(itertools.product(("topk", "sum"), SHAPES, (0.0, 9 * math.pi), ("sampled", "top"))),
)
def test_shapes_filter_and_growth_are_independent(blend, shape, lowpass_alpha, growth_where):
    rates = {} if shape == "scale_rotation" else {"lr_scale": 0.1, "lr_rotation": 0.1}
    encoded = encode(
        picture(), num_gaussians=24, steps=25, coding="plain", blend=blend, shape=shape, lowpass_alpha=lowpass_alpha,
        growth_where=growth_where, pos_bits=16, scale_bits=16, rot_bits=16, feat_bits=16, **rates,
    )  # fmt: skip
    header = open_file(encoded.data).header
    assert header.shape == Shape[shape.upper()]
    expected = np.float32(48 * 40 / (lowpass_alpha * 24)) if lowpass_alpha else 0
    assert header.lowpass == pytest.approx(expected)
    assert encoded.report["psnr"] > 8


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("blend", ["topk", "sum"])
def test_kernels_agree_with_torch(blend, shape):
    if not kernels.available():
        pytest.skip("the compiled kernels are missing")
    recipe = Recipe(steps=1, shape=shape, blend=blend, lowpass_alpha=30.0, growth=False)
    fit = Fit(target(), 30, recipe, TorchBackend())
    model = fit.state.model
    model.scale.mul_(torch.tensor([1.0, 1.3]))
    model.rotation.add_(0.2)
    options = dataclasses.replace(fit.options, pull=0.0)
    expected = TorchBackend().step(model, options, fit.target, fit.loss_weights)
    found = KernelBackend().step(model, options, fit.target, fit.loss_weights)
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    for f, e in zip(found.grads, expected.grads, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-3, atol=1e-3 * float(e.abs().max()))


def test_gradient_through_shape_filter_and_rasteriser():
    g = torch.Generator().manual_seed(0)
    position = 6 * torch.rand(3, 2, generator=g, dtype=torch.float64)
    feature = torch.rand(3, 2, generator=g, dtype=torch.float64)
    scale = 1 + torch.rand(3, 2, generator=g, dtype=torch.float64)
    rotation = 0.3 * torch.rand(3, generator=g, dtype=torch.float64)
    torch_backend = TorchBackend(tiles=False)
    options = RasterOptions(6, 5, "sum", reach2=40.0, lowpass=0.5)
    for scale_map in ("cholesky", "covariance"):
        leaves = [t.clone().requires_grad_() for t in (position, scale, rotation, feature)]
        assert torch.autograd.gradcheck(
            lambda *t, m=scale_map: torch_backend._image(t, m, options), leaves, rtol=1e-4, atol=1e-6
        )


def test_filter_narrows_as_gaussians_join_and_the_picture_stays():
    recipe = Recipe(
        steps=50, blend="sum", lowpass_alpha=20.0, growth_color="zero", growth_start=0.5, shape="covariance"
    )
    fit = Fit(target(), 40, recipe, backend())
    assert fit.options.lowpass == pytest.approx(48 * 40 / (20 * 20))
    before = fit.backend.render(fit.state.model, fit.options)
    fit.grow(20)
    assert fit.options.lowpass == pytest.approx(48 * 40 / (20 * 40))
    assert len(fit.state.model) == 40
    torch.testing.assert_close(fit.backend.render(fit.state.model, fit.options), before, atol=2e-5, rtol=0)


def test_filter_has_a_largest_width():
    assert Fit(torch.zeros(1, 200, 200), 1, Recipe(lowpass_alpha=10.0), TorchBackend()).options.lowpass == 300.0


def test_top_positions_are_the_largest_errors():
    error = np.zeros((5, 7))
    error[3, 2], error[0, 6], error[4, 4] = 3.0, 2.0, 1.0
    assert init.top_positions(error, 2).tolist() == [[2.5, 3.5], [6.5, 0.5]]
    assert init.top_positions(error, 40).shape == (40, 2)


@pytest.mark.parametrize("color", ["picture", "residual", "zero"])
def test_colours_of_added_gaussians(color):
    recipe = Recipe(steps=50, blend="sum", growth_start=0.5, growth_color=color, growth_where="top")
    fit = Fit(target(), 40, recipe, backend())
    residual = fit.target - fit.backend.render(fit.state.model, fit.options)
    fit.grow(20)
    new = fit.state.model.feature[20:]
    x, y = fit.state.model.position[20:].long().unbind(1)
    expected = {"picture": fit.target, "residual": residual, "zero": torch.zeros_like(residual)}[color][:, y, x].T
    torch.testing.assert_close(new, expected, atol=1e-5, rtol=0)


def test_steps_schedule_halves_twice():
    recipe = dataclasses.replace(PRESETS["gaussianimage"], steps=100)
    fit = Fit(target(), 10, recipe, TorchBackend())
    rates = []
    for fit.state.step in (0, 39, 40, 79, 80, 99):
        rates.append(fit.learning_rate())
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_model_of_matrices_has_deviations():
    model = Model(torch.zeros(1, 2), torch.tensor([[9.0, 4.0]]), torch.zeros(1), torch.zeros(1, 1), "covariance")
    assert model.sigmas().tolist() == [[3.0, 2.0]]
