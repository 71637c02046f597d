"""Values of encode options that make no sense are told before anything is done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import igs
from igs.encoder import EncodeOptions
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


def test_bits_are_of_plain_codes() -> None:
    assert EncodeOptions(overrides={"pos_bits": 10}).recipe().coding == "plain"
    with pytest.raises(UsageError, match="pos_bits: expected plain coding"):
        EncodeOptions(overrides={"pos_bits": 10, "coding": "lattice"}).recipe()


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
