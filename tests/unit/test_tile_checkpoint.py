"""Super-tiles that were interrupted: what they go on from, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from checkpoint_cases import array, changed, scalar
from tile_cases import CASES, tile_picture

import igs
from igs.encoder.options import Progress
from igs.format.errors import InputError, UsageError


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return tile_picture()


class Interrupted(Exception):
    """In the middle of a square."""


SETTINGS = {"super_tile": 100, "steps": 20, "log_every": 5, "threads": 1}


def interrupted(image: np.ndarray, path: Path, at: int, **settings: Any) -> None:
    """An encode that ends at a step, counted over all squares; each takes 20."""

    def stop(progress: Progress) -> None:
        if progress.step >= at:
            raise Interrupted

    with pytest.raises(Interrupted):
        igs.encode(image, checkpoint=path, on_progress=stop, **(SETTINGS | settings))


@pytest.mark.parametrize("case", CASES)
def test_one_that_was_interrupted_goes_on_from_its_last_square(image: np.ndarray, case: str, tmp_path: Path) -> None:
    path, seen = tmp_path / "kept.npz", []
    interrupted(image, path, 70, **CASES[case])
    resumed = igs.encode(image, resume=path, checkpoint=path, on_progress=seen.append, **SETTINGS, **CASES[case])
    assert (seen[0].step, seen[0].steps) == (65, 120)  # three squares are done
    whole = igs.encode(image, **SETTINGS, **CASES[case])
    assert resumed.data == whole.data
    assert resumed.report["super_tiles"] == 6
    again = igs.encode(image, resume=path, on_progress=seen.append, **SETTINGS, **CASES[case])  # the last square only
    assert again.data == whole.data
    assert [progress.step for progress in seen[-4:]] == [105, 110, 115, 120]


@pytest.fixture(scope="module")
def kept(image: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after two squares."""
    path = tmp_path_factory.mktemp("kept") / "tiles.npz"
    interrupted(image, path, 45, bpp=0.5)
    return path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 1}, "this very fit, found one with another seed"),
        ({"bpp": 0.6}, "found one with another number of Gaussians"),
        ({"super_tile": 150}, "found one with another side of super-tiles"),
        ({"super_tile": None}, "checkpoint of a fit of the whole picture, found one of a fit in super-tiles"),
        ({"steps": 30}, "checkpoint of a fit with steps 20, this one has 30"),
        ({"linear_light": True}, "found one with another way of storing groups"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(image: np.ndarray, kept: Path, settings: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        igs.encode(image, resume=kept, **(SETTINGS | {"bpp": 0.5} | settings))


def test_a_checkpoint_of_another_picture_is_refused(image: np.ndarray, kept: Path, tmp_path: Path) -> None:
    for other, error, message in (
        (255 - image, UsageError, "found one with another picture"),
        (image.astype(np.uint16) * 257, UsageError, "found one with another picture"),
        (image[:, :290], InputError, r"checkpoint of a picture \[3, 200, 300\], this one is \[3, 200, 290\]"),
    ):
        with pytest.raises(error, match=message):
            igs.encode(other, resume=kept, bpp=0.5, **SETTINGS)
    whole = tmp_path / "whole.npz"
    igs.encode(image, checkpoint=whole, checkpoint_every=5, steps=10, num_gaussians=40)
    with pytest.raises(UsageError, match="checkpoint of a fit in super-tiles, found one of a fit of the whole picture"):
        igs.encode(image, resume=whole, bpp=0.5, **SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (array("0_position", lambda v: v[:-1]), r"float32 \[\d+, 2\] in 0_scale"),
        (array("1_feature", lambda v: v[:, :2]), "in 1_feature, found float32"),
        (array("1_rotation", lambda v: v * np.nan), "finite values in 1_rotation"),
        (lambda arrays, scalars: arrays.pop("1_scale"), "an array 1_scale, found none"),
        (array("probe_errors", lambda v: v - 1), "squares in probe_errors"),
        (array("probe_errors", lambda v: v[1:]), r"float64 \[200, 300\] in probe_errors"),
        (array("probe_means", lambda v: v[:, :1]), "in probe_means"),
        (scalar("reduction", 0), "in reduction"),
        (scalar("reduction", 2), r"float64 \[100, 150\] in probe_errors"),
        (scalar("done", 6), "a whole number of 0 to 5 in done, found 6"),
        (scalar("done", 5), "expected an array 2_position"),
        (scalar("error", float("nan")), "in error"),
        (scalar("error", -1), "in error"),
        (scalar("bytes", None), "a number, .* in bytes, found None"),
        (scalar("left", 1.5), "in left"),
        (scalar("steps", True), "in steps"),
        (scalar("about", {}), "picture in about"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused(
    image: np.ndarray, kept: Path, tmp_path: Path, change: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        igs.encode(image, resume=changed(kept, tmp_path / "bad.npz", change), bpp=0.5, **SETTINGS)
