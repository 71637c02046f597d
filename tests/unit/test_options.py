"""Encode options: what they mean for the recipe; values that make no sense are told before anything is done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import igs
from igs.encoder import EncodeOptions
from igs.encoder.options import CODECS, TRANSFERS
from igs.format import Codec, Transfer
from igs.format.errors import UsageError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "gpu"),
        ("codec", "lzma"),
        ("seed", -1),
        ("seed", 1.5),
        ("seed", 2**63),
        ("threads", 0),
        ("chunk_size", 2**16),
        ("log_every", 0),
        ("checkpoint_every", 0),
    ],
)
def test_what_makes_no_sense(name: str, value: Any) -> None:
    pytest.importorskip("torch", reason="the encoder needs torch")
    with pytest.raises(UsageError, match=f"{name}: expected"):
        igs.encode(np.zeros((8, 8, 3), np.uint8), num_gaussians=2, steps=1, **{name: value})


def test_names_are_those_of_the_format() -> None:
    assert ("auto", *(t.name.lower() for t in Transfer)) == TRANSFERS
    assert set(CODECS) <= {c.name.lower() for c in Codec}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bpp": 0.1, "size": 100}, "expected one rate target, found bpp and size"),
        ({"quality": 101}, "quality: expected 0.0 to 100.0"),
        ({"psnr": 0.0}, "psnr: expected 1.0 to 100.0"),
        ({"effort": 0}, "effort: expected 1 to 9"),
        ({"preset": "best"}, "preset: expected one of default, "),
        ({"no_such_option": 1}, "expected an encode option or a recipe field, found 'no_such_option'"),
        ({"top_k": 33}, "top_k: expected 1 to 32"),
        ({"steps": -1}, "steps: expected 0 to "),
        ({"pos_bits": 0}, "pos_bits: expected 1 to 32"),
        ({"num_gaussians": 0}, "num_gaussians: expected a whole number of 1 to "),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    pytest.importorskip("torch", reason="the encoder needs torch")
    with pytest.raises(UsageError, match=message):
        igs.encode(np.zeros((8, 8, 3), np.uint8), **settings)


def test_bits_per_code_ask_for_plain_coding() -> None:
    assert EncodeOptions().recipe().coding == "lattice"
    for name in ("pos_bits", "scale_bits", "rot_bits", "feat_bits"):
        assert EncodeOptions(overrides={name: 9}).recipe().coding == "plain"


def test_bits_are_of_plain_codes() -> None:
    assert EncodeOptions(overrides={"pos_bits": 10}).recipe().coding == "plain"
    with pytest.raises(UsageError, match="pos_bits: expected plain coding"):
        EncodeOptions(overrides={"pos_bits": 10, "coding": "lattice"}).recipe()


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
def test_a_lattice_takes_no_other_shapes_filters_or_quantisers(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="coding: expected plain"):
        EncodeOptions(overrides=settings).recipe()
    EncodeOptions(overrides=settings | {"coding": "plain"}).recipe()


def test_what_makes_sense() -> None:
    EncodeOptions(seed=np.int64(3), threads=1024, chunk_size=1, device="cpu", codec="raw").check()


@pytest.mark.parametrize(
    ("overrides", "interval"),
    [
        ({}, 500),
        ({"steps": 20_000}, 500),
        ({"steps": 300}, 30),
        ({"steps": 2}, 1),
        ({"steps": 300, "growth_interval": 200}, 200),
        ({"steps": 300, "growth_rounds": 0}, 500),
    ],
)
def test_all_gaussians_join_in_time_where_the_steps_are_few(overrides: dict[str, int], interval: int) -> None:
    recipe = EncodeOptions(preset="image-gs", overrides=overrides).recipe()
    assert recipe.growth_interval == interval


def test_efforts_take_more_and_more_steps() -> None:
    steps = [EncodeOptions(effort=e).recipe().steps for e in range(1, 10)]
    assert steps == sorted(set(steps))


def test_tune_sets_the_loss_and_an_override_wins() -> None:
    psnr, both = EncodeOptions(tune="psnr").recipe(), EncodeOptions(tune="ms-ssim").recipe()
    assert (psnr.loss_l2, psnr.loss_ms_ssim) == (1.0, 0.0)
    assert both.loss_ms_ssim > EncodeOptions(tune="mixed").recipe().loss_ms_ssim > 0
    assert EncodeOptions(tune="ms-ssim", overrides={"loss_ms_ssim": 0.5}).recipe().loss_ms_ssim == 0.5
    assert EncodeOptions(tune="psnr", preset="image-gs").recipe().loss_l1 == 0.0
    assert EncodeOptions(preset="image-gs").recipe().loss_l1 == 1.0  # the preset's own
    with pytest.raises(UsageError, match="tune"):
        EncodeOptions(tune="vmaf").recipe()  # type: ignore[arg-type]


def test_a_loss_of_ones_own_has_no_further_term() -> None:
    assert EncodeOptions().recipe().loss_ms_ssim > 0
    assert EncodeOptions(overrides={"loss_l1": 1.0}).recipe().loss_ms_ssim == 0
    assert EncodeOptions(overrides={"loss_ssim": 0.1, "loss_ms_ssim": 0.2}).recipe().loss_ms_ssim == 0.2
    assert EncodeOptions(tune="ms-ssim", overrides={"loss_l1": 1.0}).recipe().loss_ms_ssim == 0.01
    with pytest.raises(UsageError, match="loss weights"):
        EncodeOptions(overrides={"loss_l2": 0.0}).recipe()
