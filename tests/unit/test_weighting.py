"""Weights of channel groups: what the fit sees, and that files hold the picture's own values."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

import igs
from igs.encoder import EncodeOptions, TextureMap, encode
from igs.encoder.raster import kernels
from igs.encoder.raster.model import Model
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.lattice import Steps
from igs.encoder.weighting import Gains
from igs.format import Group
from igs.format.errors import UsageError
from igs.format.lattice import step_value

GROUPS = (Group(channels=3, name="a"), Group(channels=1, name="b"))


def test_gains_are_roots_of_weights_in_eighths_of_octaves() -> None:
    gains = Gains.of(GROUPS, (2.0, 10.0), Recipe())  # mean over the channels: 4
    assert gains.finer == (-4, -4, -4, 5)
    np.testing.assert_allclose(gains.factors() ** 2, [0.5, 0.5, 0.5, 2.378], atol=1e-3)
    assert Gains.of(GROUPS, (), Recipe()) == Gains.of(GROUPS, (3.0, 3.0), Recipe()) == Gains()


def test_a_weighted_error_is_the_error_of_scaled_channels() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.rand(4, 5, 6, generator=g) for _ in range(2))
    gains = Gains.of(GROUPS, (1.0, 4.0), Recipe())
    weights = gains.factors() ** 2
    error = ((gains.weighted(a) - gains.weighted(b)) ** 2).sum()
    torch.testing.assert_close(error, (weights[:, None, None] * (a - b) ** 2).sum())
    model = Model(torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(2), torch.rand(2, 4, generator=g), "log")
    scaled = Model(model.position, model.scale, model.rotation, model.feature * gains.factors(), "log")
    torch.testing.assert_close(gains.unweighted(scaled).feature, model.feature)
    assert Gains().unweighted(model) is model


def test_the_files_steps_are_those_of_the_fit_over_the_gains() -> None:
    gains = Gains.of(GROUPS, (1.0, 4.0), Recipe())
    steps = Steps.of(0.5, 4, 4, [])
    fit, stored = steps.record(False), steps.record(False, gains.finer)
    for seen, written, gain in zip(fit.feature, stored.feature, gains.factors().tolist(), strict=True):
        assert step_value(written) == pytest.approx(step_value(seen) / gain)
    assert steps.record(False, (0, 300, -300, 0)).feature[1:3] == (255, 0)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"primitive": "gradient"}, "primitive constant, found gradient"),
        ({"coding": "plain", "feat_quantizer": "learned"}, "feat_quantizer uniform, found learned"),
    ],
)
def test_recipes_that_cannot_be_weighted(overrides: dict, expected: str) -> None:
    recipe = EncodeOptions(overrides=overrides).recipe()
    with pytest.raises(UsageError, match=expected):
        Gains.of(GROUPS, (1.0, 2.0), recipe)


@pytest.fixture
def maps() -> dict[str, np.ndarray]:
    y, x = np.mgrid[:48, :48] / 48
    waves = np.stack([np.sin(9 * x + 5 * y), np.cos(7 * y), np.sin(11 * x * y)], axis=2) / 2 + 0.5
    rings = np.sin(30 * np.hypot(x - 0.3, y - 0.6)) / 2 + 0.5
    return {"albedo": waves.astype(np.float32), "ao": rings.astype(np.float32)}


@pytest.mark.skipif(not kernels.available(), reason="needs the compiled kernels")
@pytest.mark.parametrize("coding", ["lattice", "plain"])
def test_a_map_of_more_weight_comes_out_better(maps: dict, coding: str) -> None:
    def quality(weight: float) -> dict[str, float]:
        weighted = {"albedo": maps["albedo"], "ao": TextureMap(maps["ao"], weight=weight)}
        # Of eight seeds ao gains 3.6 to 7.4 dB on the lattice; with 80 steps 0.9 to 7.2.
        encoded = encode(weighted, num_gaussians=60, steps=200, coding=coding)
        with igs.open(encoded.data) as im:
            decoded = im.decode_groups()
        assert [g["name"] for g in encoded.report["groups"]] == ["albedo", "ao"]
        errors = {name: float(np.mean((decoded[name] - np.atleast_3d(maps[name])) ** 2)) for name in maps}
        for group in encoded.report["groups"]:
            assert group["psnr"] == pytest.approx(-10 * np.log10(errors[group["name"]]), abs=1e-3)
        return {g["name"]: g["psnr"] for g in encoded.report["groups"]}

    low, high = quality(0.1), quality(10.0)
    assert high["ao"] > low["ao"] + 1
    assert high["albedo"] < low["albedo"] - 1


@pytest.mark.skipif(not kernels.available(), reason="needs the compiled kernels")
def test_equal_weights_are_no_weights(maps: dict) -> None:
    files = [
        encode({n: TextureMap(m, weight=w) for n, m in maps.items()}, num_gaussians=30, steps=20).data
        for w in (1.0, 5.0)
    ]
    assert files[0] == files[1]
