"""The encoder: initialisation, growth, rate targets, determinism, checkpoints, hard cases. Small pictures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

import igs
from igs.encoder import PRESETS, EncodeOptions, encode, rate, targets
from igs.encoder.fitting import checkpoint, init
from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.growth import growth_plan
from igs.encoder.fitting.saliency import spectral_residual
from igs.encoder.metrics import ms_ssim
from igs.encoder.raster import kernels
from igs.encoder.raster.backend import KernelBackend, Model, TorchBackend, scale_parameter
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.lattice import Noise, rate_gradients


def picture(width=40, height=30, channels=3, seed=0):
    """Smooth, with an edge: something that Gaussians can fit and noise can't."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [
        0.5 + 0.4 * np.sin((x * (c + 1) + y * (seed + 1)) / 9.0) * np.cos(y / 7.0) * np.where(x > width / 2, 1, 0.5)
        for c in range(channels)
    ]
    return np.round(np.stack(planes, axis=2) * 255).astype(np.uint8)


def small(image, **settings):
    return encode(image, **({"steps": 40, "num_gaussians": 30} | settings))


# -- initialisation


def test_positions_follow_the_map_and_the_uniform_share():
    rng = np.random.default_rng(0)
    weights = np.zeros((20, 30))
    weights[:, :10] = 1
    points = init.draw_positions(weights, 150, 0.0, 1.0, rng)
    assert points[:, 0].max() < 10
    points = init.draw_positions(weights, 300, 1.0, 1.0, rng)
    assert 0.5 < (points[:, 0] >= 10).mean() < 0.8
    cells = np.floor(points).astype(int)
    assert len(np.unique(cells[:, 1] * 30 + cells[:, 0])) == 300  # no pixel twice


def test_more_positions_than_pixels():
    points = init.draw_positions(np.ones((2, 3)), 20, 0.3, 1.0, np.random.default_rng(0))
    assert points.shape == (20, 2)
    assert (points >= 0).all()
    assert (points <= [3, 2]).all()


def test_gradient_map_is_high_at_an_edge():
    image = np.zeros((10, 12, 3), np.float32)
    image[:, 6:] = 1
    gradient = init.gradient_map(image)
    assert gradient[:, 5:7].min() > 0
    assert gradient[:, :4].max() == 0


def test_spectral_residual_finds_the_odd_one_out():
    rng = np.random.default_rng(0)
    image = (0.5 + 0.05 * rng.standard_normal((64, 64, 1))).astype(np.float32)
    image[40:44, 20:24] = 1
    saliency = spectral_residual(image)
    assert saliency.shape == (64, 64)
    y, x = np.unravel_index(saliency.argmax(), saliency.shape)
    assert abs(y - 41.5) < 8
    assert abs(x - 21.5) < 8


# -- growth and schedule


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
@pytest.mark.parametrize("preset", PRESETS)
def test_growth_adds_up(preset, n):
    plan = growth_plan(PRESETS[preset], n)
    assert sum(plan.values()) == n
    assert all(count >= 0 for count in plan.values())
    assert max(plan) < PRESETS[preset].steps


def test_fit_improves_and_returns_its_best():
    target = torch.from_numpy(picture().astype(np.float32) / 255).permute(2, 0, 1)
    backend = KernelBackend() if kernels.available() else TorchBackend()
    losses = []
    fit = Fit(target, 40, Recipe(steps=60), backend, on_step=lambda f: losses.append(f.best_loss))
    model = fit.run()
    final, _ = backend.measure(backend.render(model, fit.options), target, False)
    assert final <= min(losses) + 1e-9
    assert final < 0.5 * fit.history[0].loss or final < 1e-3
    assert model.is_finite()


def test_relocation_moves_those_that_would_be_missed_least():
    target = torch.from_numpy(picture().astype(np.float32) / 255).permute(2, 0, 1)
    recipe = Recipe(steps=40, growth=False, relocate=0.1)
    fit = Fit(target, 60, recipe, TorchBackend(), seed=1)
    fit.run(20)
    before, costs = fit.state.model.clone(), fit.removal_costs(fit.state.model)
    assert fit.relocate() == 6
    moved = (fit.state.model.position != before.position).any(dim=1)
    assert moved.sum() == 6
    assert costs[moved].max() <= costs[~moved].min()
    assert (fit.state.age[moved] == 0).all()


@pytest.mark.parametrize("blend", ["topk", "sum"])
def test_removal_costs_are_what_the_error_rises_by(blend):
    target = torch.from_numpy(picture().astype(np.float32) / 255).permute(2, 0, 1)
    # Everything counts everywhere, so that whoever is left out leaves the others as they are.
    recipe = Recipe(steps=10, growth=False, blend=blend, top_k=32, reach2=1e4, relative_reach2=math.inf)
    fit = Fit(target, 12, recipe, TorchBackend(), seed=1)
    model = fit.run()

    def squared_error(m):
        return ((fit.backend.render(m, fit.options) - target) ** 2).sum().item()

    rises = []
    for i in range(12):
        others = [k for k in range(12) if k != i]
        rises.append(squared_error(model.map(lambda t, rows=others: t[rows])) - squared_error(model))
    assert fit.removal_costs(model).tolist() == pytest.approx(rises, rel=1e-2, abs=1e-2)


def test_a_wild_learning_rate_still_gives_a_finite_file():
    encoded = small(picture(), lr_scale=5.0, lr_position=50.0, lr_feature=2.0)
    assert np.isfinite(igs.open(encoded.data).decode(dtype="float32")).all()


def test_gradients_are_born_flat_and_fit_better():
    target = torch.from_numpy(picture().astype(np.float32) / 255).permute(2, 0, 1).contiguous()
    losses = {}
    for primitive in ("constant", "gradient"):
        fit = Fit(
            target,
            30,
            Recipe(steps=60, primitive=primitive),
            KernelBackend() if kernels.available() else TorchBackend(),
        )
        slopes = fit.state.model.feature[:, 3:]
        assert slopes.shape == (fit.plan[0], 2 * (primitive == "gradient"))
        assert not slopes.any()
        fit.run()
        losses[primitive] = fit.best_loss
    assert losses["gradient"] < losses["constant"]


@pytest.mark.parametrize("primitive", ["constant", "gradient"])
@pytest.mark.parametrize("tiles", [True, False])
def test_torch_backend_agrees_with_the_kernels(tiles, primitive):
    if not kernels.available():
        pytest.skip("installed without a C++ compiler")
    target = torch.from_numpy(picture(24, 20).astype(np.float32) / 255).permute(2, 0, 1).contiguous()
    recipe = Recipe(steps=4, growth=False, loss_ssim=0.1, primitive=primitive)
    pictures = []
    for backend in (KernelBackend(), TorchBackend(tiles)):
        fit = Fit(target, 20, recipe, backend)
        pictures.append(backend.render(fit.run(), fit.options))
    torch.testing.assert_close(*pictures, rtol=0, atol=2e-3)


# -- files


def test_same_input_same_bytes_whatever_the_threads():
    files = {small(picture(), threads=t, seed=3).data for t in (1, 2, 2)}
    assert len(files) == 1
    assert small(picture(), seed=4).data not in files


def test_flat_colour_is_exact():
    image = np.full((9, 14, 3), (10, 200, 77), np.uint8)
    encoded = encode(image, num_gaussians=3, steps=5, feat_bits=32)
    assert (igs.open(encoded.data).decode() == image).all()
    assert encoded.report["exact"]
    assert encoded.report["psnr"] is None


def test_flat_colour_of_coarse_codes():
    """A perfect fit has the finest lattice, and large Gaussians many of its steps."""
    for image in (np.full((9, 14, 3), (10, 200, 77), np.uint8), np.full((300, 400), 0.3, np.float32)):
        encoded = encode(image, num_gaussians=3, steps=5)
        assert encoded.report["psnr"] is None or encoded.report["psnr"] > 50


def test_steps_of_a_lattice_as_large_as_the_picture():
    rng = np.random.default_rng(0)
    for width, height, channels in ((29, 1, 1), (3, 2, 3), (50, 1, 3), (1, 6, 1), (26, 2, 1)):
        image = (rng.integers(0, 2, (height, width, channels)) * 255).astype(np.uint8)
        for seed in range(4):
            encoded = encode(image, num_gaussians=20, steps=3, seed=seed)
            assert igs.open(encoded.data).decode().shape == image.shape


@pytest.mark.parametrize("top", [40.0, 1e5])
def test_values_far_above_one(top):
    image = (picture() / 255 * top).astype(np.float32)
    if top == 1e5:
        with pytest.raises(igs.UsageError, match="plain"):
            small(image)
        settings = {"coding": "plain"}
    else:
        settings = {}
    assert np.isfinite(igs.open(small(image, **settings).data).decode(dtype="float32")).all()


@pytest.mark.parametrize("scale_map", ["raw", "inverse"])
def test_noise_is_the_same_for_every_parameterisation(scale_map):
    g = torch.Generator().manual_seed(0)
    n = 50
    logs = torch.rand(n, 2, generator=g) * 2 - 0.5
    shared = torch.rand(n, 2, generator=g) * 30, torch.rand(n, generator=g), torch.rand(n, 3, generator=g)

    def model(name):
        position, rotation, feature = (t.clone() for t in shared)
        return Model(
            position, logs.clone() if name == "log" else scale_parameter(logs.exp(), name), rotation, feature, name
        )

    first, second = (Noise(3, 3, [0], 5).add(model(name), 0.5) for name in ("log", scale_map))
    assert second.scale_map == scale_map
    torch.testing.assert_close(second.sigmas(), first.sigmas())
    for a, b in ((first.position, second.position), (first.rotation, second.rotation), (first.feature, second.feature)):
        torch.testing.assert_close(b, a, atol=1e-4, rtol=1e-4)
    (by_log, feature), (by_scale, same) = (rate_gradients(model(name), [0]) for name in ("log", scale_map))
    slope = model(scale_map).scale if scale_map == "raw" else -model(scale_map).scale
    torch.testing.assert_close(by_scale * slope, by_log, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(same, feature)


def test_bits_per_code_ask_for_plain_coding():
    assert EncodeOptions().recipe().coding == "lattice"
    for name in ("pos_bits", "scale_bits", "rot_bits", "feat_bits"):
        assert EncodeOptions(overrides={name: 9}).recipe().coding == "plain"
        assert EncodeOptions(overrides={name: 9, "coding": "lattice"}).recipe().coding == "lattice"
    assert small(picture(), feat_bits=6).report["bits_per_gaussian"] == 2 * 14 + 2 * 8 + 10 + 3 * 6


@pytest.mark.parametrize(
    "settings",
    [
        {"shape": "cholesky"},
        {"shape": "covariance"},
        {"lowpass_alpha": 30.0},
        {"pos_quantizer": "learned"},
        {"feat_quantizer": "codebook"},
        {"shape_quantizer": "learned"},
    ],
    ids=str,
)
def test_a_lattice_takes_no_other_shapes_filters_or_quantisers(settings):
    with pytest.raises(igs.UsageError, match="coding: expected plain"):
        EncodeOptions(overrides=settings).recipe()
    EncodeOptions(overrides=settings | {"coding": "plain"}).recipe()


@pytest.mark.parametrize(
    ("width", "height", "n"), [(1, 1, 1), (1, 1, 50), (1, 40, 10), (40, 1, 10), (2, 31, 8), (5, 4, 100)]
)
def test_degenerate_sizes(width, height, n):
    image = picture(width, height)
    encoded = encode(image, num_gaussians=n, steps=10)
    with igs.open(encoded.data) as im:
        assert im.decode().shape == image.shape
        assert im.num_gaussians == n


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 12])
def test_any_number_of_channels(channels):
    image = picture(20, 16, channels)
    encoded = small(image)
    assert igs.open(encoded.data).decode().shape == image.shape
    assert encoded.report["channels"] == channels


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "image-gs"},
        {"preset": "image-gs-code"},
        {"blend": "sum"},
        {"primitive": "gradient"},
        {"primitive": "gradient", "blend": "sum", "quantize_forward": 0.5},
        {"primitive": "gradient", "feat_bits": 32},
        {"init": "saliency"},
        {"init": "saliency", "saliency": "fine-grained"},
        {"init": "random"},
        {"init_color": False},
        {"scale_parameter": "raw"},
        {"scale_parameter": "inverse"},
        {"growth": False},
        {"loss_l1": 1.0, "loss_l2": 0.0, "loss_ssim": 0.1},
        {"gamma": 2.2},
        {"quantize_forward": 0.5},
        {"pos_bits": 32, "scale_bits": 32, "rot_bits": 32, "feat_bits": 32},
        {"pos_bits": 9, "scale_bits": 5, "rot_bits": 4, "feat_bits": 6},
        {"codec": "raw"},
        {"top_k": 3},
    ],
    ids=str,
)
def test_every_option_makes_a_valid_file(settings):
    encoded = small(picture(), **settings)
    with igs.open(encoded.data) as im:
        decoded = im.decode()
    assert decoded.shape == (30, 40, 3)
    assert encoded.report["psnr"] > 10


def test_report_is_of_the_decoded_file():
    image = picture()
    encoded = small(image)
    error = (igs.open(encoded.data).decode().astype(float) - image) / 255
    assert encoded.report["psnr"] == pytest.approx(-10 * math.log10((error**2).mean()), abs=1e-4)
    assert encoded.report["bytes"] == len(encoded.data)
    assert encoded.report["bpp"] == pytest.approx(len(encoded.data) * 8 / (40 * 30))
    json.dumps(encoded.report)


def test_no_point_of_the_picture_is_bare():
    from igs.decoder import holes
    from igs.format import Gaussians, open_file

    encoded = encode(picture(64, 48), num_gaussians=4, steps=30, reach2=2.0, pos_bits=6, scale_bits=4)
    reader = open_file(encoded.data)
    gaussians = Gaussians.concatenate([reader.gaussians(i) for i in range(reader.num_chunks)])
    assert len(holes(reader.header, gaussians, 4)) == 0


# -- rate


@pytest.mark.parametrize("size", [400, 900, 3000])
def test_size_is_never_exceeded_and_nearly_used(size):
    encoded = encode(picture(80, 60), size=size, steps=3, codec="raw", coding="plain")
    one = encoded.report["bits_per_gaussian"] / 8
    assert len(encoded.data) <= size
    assert len(encoded.data) >= min(0.98 * size, size - one - 1)
    coded = encode(picture(80, 60), size=size, steps=40)
    assert 0.9 * size <= len(coded.data) <= size


def test_size_below_the_smallest_file_names_it():
    with pytest.raises(igs.UsageError, match="smallest file"):
        encode(picture(), size=50, steps=1)


def test_psnr_target_is_met():
    assert encode(picture(60, 50), psnr=24.0, steps=60).report["psnr"] >= 24.0


def test_psnr_beyond_reach_warns_or_fails():
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    warnings = []
    encoded = encode(noise, psnr=60.0, steps=3, on_warning=warnings.append)
    assert encoded.report["rate_met"] is False
    assert len(warnings) == 1
    with pytest.raises(igs.IgsError, match="reached"):
        encode(noise, psnr=60.0, steps=3, strict_rate=True)


def test_small_pictures_get_some_gaussians_and_metadata_is_not_counted():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 255
    report = encode(image, quality=75, effort=1, sections={"iccp": bytes(36) + b"acsp" + bytes(5000)}).report
    assert report["num_gaussians"] == 64
    assert report["psnr"] > 20
    warnings = []
    encode(image, size=6000, steps=1, sections={"soft": bytes(5000)}, on_warning=warnings.append)
    assert "metadata takes 5000" in warnings[0]


def test_quality_is_a_documented_rate():
    assert rate.quality_to_bpp(0) == pytest.approx(0.02)
    assert rate.quality_to_bpp(100) == pytest.approx(1.0)
    low, high = (small(picture(200, 150), num_gaussians=None, quality=q, steps=2).report["bytes"] for q in (60, 90))
    assert low < high


@pytest.mark.parametrize(
    "settings",
    [
        {"bpp": 0.1, "size": 100},
        {"quality": 101},
        {"psnr": 0.0},
        {"effort": 0},
        {"preset": "best"},
        {"no_such_option": 1},
        {"top_k": 33},
        {"steps": -1},
        {"pos_bits": 0},
        {"num_gaussians": 0},
    ],
    ids=str,
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(igs.UsageError):
        encode(picture(8, 8), **settings)


# -- along the way


def test_resume_gives_the_same_file(tmp_path):
    kept = tmp_path / "fit.npz"
    settings = {"steps": 40, "num_gaussians": 30, "seed": 2}
    whole = encode(picture(), **settings, checkpoint=kept, checkpoint_every=25)
    assert kept.exists()
    assert encode(picture(), **settings, resume=kept).data == whole.data
    with pytest.raises(igs.InputError, match="checkpoint of a picture"):
        encode(picture(20, 20), **settings, resume=kept)
    for change, message in (({"num_gaussians": 31}, "with 30 Gaussians"), ({"steps": 41}, "with steps 40")):
        with pytest.raises(igs.UsageError, match=message):
            encode(picture(), **(settings | change), resume=kept)
    with pytest.raises(igs.UsageError, match="resume"):
        encode(picture(), psnr=20.0, resume=kept)
    with pytest.raises(igs.UsageError, match="coding"):
        encode(picture(), **settings, coding="plain", resume=kept)
    for damaged in (b"not an archive", kept.read_bytes()[:500]):
        kept.write_bytes(damaged)
        with pytest.raises(igs.InputError, match="not a checkpoint"):
            encode(picture(), **settings, resume=kept)
    with pytest.raises(igs.InputError, match="existing folder"):
        encode(picture(), **settings, checkpoint=tmp_path / "nowhere" / "fit.npz")


@pytest.mark.parametrize("coarser", [0.4, targets._LATE_COARSER])  # at reviews, 25, 30 and 35, many have to go, or none
@pytest.mark.parametrize("at", [10, 12, 20, 25, 32, 35])
def test_a_coded_fit_of_a_size_goes_on_where_it_was(tmp_path, monkeypatch, at, coarser):
    monkeypatch.setattr(targets, "_LATE_COARSER", coarser)
    settings = {"steps": 40, "size": 900, "seed": 2}  # Gaussians come at 2, 4, … 12, noise from 30 on
    kept, save = tmp_path / "kept.npz", checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda fit, path: save(fit, path) if fit.state.step == at else None)
    whole = encode(picture(), **settings, checkpoint=kept, checkpoint_every=1)
    assert encode(picture(), **settings, resume=kept).data == whole.data
    assert whole.report["num_gaussians"] < 120 if coarser < 1 else whole.report["num_gaussians"] > 140


def test_checkpoint_is_written_at_the_end_too(tmp_path):
    small(picture(), checkpoint=tmp_path / "fit.npz", checkpoint_every=1000)
    assert (tmp_path / "fit.npz").exists()


def test_pictures_and_log_lines(tmp_path):
    seen = []
    small(picture(), render_every=20, render_dir=tmp_path / "frames", log_every=10, on_progress=seen.append)
    assert sorted(p.name for p in (tmp_path / "frames").iterdir()) == [f"step_{n:06d}.png" for n in (0, 20, 40)]
    assert [p.step for p in seen] == [10, 20, 30, 40]
    assert all(p.psnr is not None and p.ssim is not None and p.loss >= 0 and p.num_gaussians <= 30 for p in seen)


def test_what_a_log_line_knows():
    """Every 30 steps of 70 it is measured by itself, and at the end; from step 52 on steps see noise."""
    seen = []
    encode(picture(), num_gaussians=30, steps=70, log_every=5, on_progress=seen.append)
    lines = {p.step: p for p in seen}
    measured = [step for step, p in lines.items() if p.ssim is not None]
    assert measured == [10, 20, 30, 40, 50, 60, 70]  # a tenth of the steps is 7: the next line after
    assert [step for step, p in lines.items() if p.psnr is None] == [55, 65]


def test_the_last_log_line_is_measured():
    seen = []
    encode(picture(), num_gaussians=30, steps=46, log_every=8, on_progress=seen.append)
    assert [p.step for p in seen] == [8, 16, 24, 32, 40, 46]
    assert seen[-1].psnr is not None
    assert seen[-1].ssim is not None


def test_saliency_map_from_a_file(tmp_path):
    from PIL import Image

    Image.fromarray(np.eye(10, dtype=np.uint8) * 255).save(tmp_path / "map.png")
    assert small(picture(), saliency_map=tmp_path / "map.png").report["psnr"] > 10
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(igs.InputError, match="bad"):
        small(picture(), saliency_map=tmp_path / "bad.png")


def test_options_object_and_device():
    assert encode(picture(8, 8), EncodeOptions(num_gaussians=2, overrides={"steps": 2})).report["steps"] == 2
    with pytest.raises(igs.Unsupported, match="cuda"):
        encode(picture(8, 8), num_gaussians=2, device="cuda")


def test_efforts_take_more_and_more_steps():
    steps = [EncodeOptions(effort=e).recipe().steps for e in range(1, 10)]
    assert steps == sorted(set(steps))


def test_ms_ssim_of_equal_and_of_small_pictures():
    a = np.random.default_rng(0).random((170, 180, 3)).astype(np.float32)
    assert ms_ssim(a, a) == pytest.approx(1.0)
    assert ms_ssim(a, 1 - a) < 0.2
    assert ms_ssim(a[:160], a[:160]) is None


def test_presets_page_shows_the_presets():
    from pathlib import Path

    from igs.encoder.presets import presets_table

    page = Path(__file__).resolve().parents[2] / "docs" / "presets.md"
    assert presets_table() in page.read_text(), "run: python bench/make_docs.py"


def test_tune_sets_the_loss_and_an_override_wins():
    psnr, both = EncodeOptions(tune="psnr").recipe(), EncodeOptions(tune="ms-ssim").recipe()
    assert (psnr.loss_l2, psnr.loss_ssim) == (1.0, 0.0)
    assert both.loss_ssim > 0
    assert EncodeOptions(tune="ms-ssim", overrides={"loss_ssim": 0.5}).recipe().loss_ssim == 0.5
    assert EncodeOptions(tune="psnr", preset="image-gs").recipe().loss_l1 == 0.0
    assert EncodeOptions(preset="image-gs").recipe().loss_l1 == 1.0  # the preset's own
    with pytest.raises(igs.UsageError, match="tune"):
        EncodeOptions(tune="vmaf").recipe()  # type: ignore[arg-type]
