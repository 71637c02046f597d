"""What a fit goes on from: files that are no checkpoint of it are refused before the kernels see them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from checkpoint_cases import Arrays, array, changed, scalar
from encoder_cases import picture

import igs
from igs.encoder import Recipe, encode
from igs.encoder.fitting import checkpoint
from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.safeguards import Safeguards
from igs.encoder.presets import PRESETS
from igs.encoder.raster.torch_backend import TorchBackend

SETTINGS: dict[str, Any] = {"steps": 40, "num_gaussians": 30, "seed": 2, "threads": 1}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint at step 35, in the noise."""
    path = tmp_path_factory.mktemp("kept") / "fit.npz"
    encode(picture(), **SETTINGS, on_step=lambda fit: checkpoint.save(fit, path) if fit.state.step == 35 else None)
    return path


def many(arrays: Arrays, scalars: dict[str, Any]) -> None:
    """Three million rows of positions and shapes, and colours of a few."""
    arrays["position"] = arrays["scale"] = np.ones((3_000_000, 2), np.float32)
    arrays["rotation"] = np.zeros(3_000_000, np.float32)
    arrays["feature"] = np.zeros((40, 3), np.float32)


BAD: list[tuple[Any, str]] = [
    (many, r"float32 \[3000000, 3\] in feature, found float32 \[40, 3\]"),
    (array("position", lambda v: v.astype(np.float64)), r"float32 \[30, 2\] in position, found float64 \[30, 2\]"),
    (array("position", lambda v: v.astype(">f4")), r"float32 \[30, 2\] in position, found >f4"),
    (array("position", lambda v: v[:0]), "one Gaussian or more in position"),
    (array("position", lambda v: np.float32(3)), "one Gaussian or more in position"),
    (array("position", lambda v: v * np.nan), "finite values in position, found NaN"),
    (array("rotation", lambda v: v[:7]), r"float32 \[30\] in rotation, found float32 \[7\]"),
    (array("feature", lambda v: v[:, :2]), r"float32 \[30, 3\] in feature, found float32 \[30, 2\]"),
    (array("m_scale", lambda v: v[:9]), r"float32 \[30, 2\] in m_scale"),
    (array("v_feature", lambda v: v.astype(np.int32)), "in v_feature, found int32"),
    (array("age", lambda v: v.astype(np.int64)), r"int32 \[30\] in age, found int64"),
    (array("age", lambda v: v - 100), "0 to 35 in age"),
    (array("before_noise_feature", lambda v: v * np.inf), "finite values in before_noise_feature"),
    (array("noise", lambda v: v[:10]), r"in noise, found uint8 \[10\]"),
    (array("noise", lambda v: v * 0), "expected states of random numbers"),
    (lambda arrays, scalars: arrays.pop("v_position"), "an array v_position, found none"),
    (lambda arrays, scalars: arrays.pop("noise"), "an array noise, found none"),
    (lambda arrays, scalars: arrays.pop("scalars"), "not a checkpoint"),
    (lambda arrays, scalars: arrays.update(rounding_0offset=np.zeros(2)), "as nothing is learned"),
    (scalar("recipe", []), r"values by name in recipe, found \[\]"),
    (scalar("about", 3), "values by name in about, found 3"),
    (scalar("about", {}), "picture in about"),
    (scalar("shape", "x"), "checkpoint of a picture x"),
    (scalar("asked", "x"), "a whole number in asked"),
    (scalar("device", 1), "a name in device"),
    (scalar("step", "x"), "0 to 40 in step, found x"),
    (scalar("step", True), "0 to 40 in step"),
    (scalar("step", 41), "0 to 40 in step"),
    (scalar("num_gaussians", 1.5), "in num_gaussians"),
    (scalar("lr_factor", None), "in lr_factor"),
    (scalar("caution", float("nan")), "in caution"),
    (scalar("plateau_best", 3), "in plateau_best"),
    (scalar("best_loss", "x"), "in best_loss"),
    (scalar("quantized", None), "in quantized"),
    (scalar("before_move", []), "in before_move"),
    (scalar("before_noise", [0.1]), "in before_noise"),
    (scalar("before_noise", [0.1, -1.0]), "in before_noise"),
    (scalar("last", None), "in last"),
    (scalar("last", [0.1, -0.5, None]), "in last"),
    (scalar("rng", 3), "in rng"),
    (scalar("rng", {"bit_generator": "MT19937"}), "expected states of random numbers"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message for _, message in BAD])
def test_what_is_no_checkpoint_is_refused(kept: Path, tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(igs.InputError, match=message) as caught:
        encode(picture(), **SETTINGS, resume=changed(kept, tmp_path / "bad.npz", change))
    assert str(caught.value).startswith(str(tmp_path / "bad.npz"))


def test_scalars_are_values_by_name(kept: Path, tmp_path: Path) -> None:
    bad = changed(kept, tmp_path / "bad.npz", lambda arrays, scalars: None)
    with np.load(bad) as f:
        arrays = {name: f[name] for name in f.files}
    for text in (b"[]", b"3", b"{", b"\xff"):
        np.savez(bad, **(arrays | {"scalars": np.frombuffer(text, np.uint8)}))
        with pytest.raises(igs.InputError, match="not a checkpoint"):
            encode(picture(), **SETTINGS, resume=bad)


def test_one_that_is_whole_is_taken(kept: Path, tmp_path: Path) -> None:
    same = changed(kept, tmp_path / "same.npz", lambda arrays, scalars: None)
    assert encode(picture(), **SETTINGS, resume=same).data == encode(picture(), **SETTINGS).data


def test_learned_quantisers_fit_the_gaussians(tmp_path: Path) -> None:
    recipe = dataclasses.replace(PRESETS["gaussianimage"], steps=20)
    target = torch.from_numpy(picture(24, 20).astype(np.float32) / 255).permute(2, 0, 1)

    def fit() -> Fit:
        return Fit(target, 12, recipe, TorchBackend())

    first, path = fit(), tmp_path / "fit.npz"
    first.run(15)
    checkpoint.save(first, path)
    checkpoint.restore(fit(), path)
    for name, change in (
        ("rounding_1step", lambda v: v[:1]),
        ("best_rounding_3tables", lambda v: v.astype(np.float32)),
        ("rounding_2offset", lambda v: v * np.nan),
    ):
        with pytest.raises(igs.InputError, match=f"in {name}"):
            checkpoint.restore(fit(), changed(path, tmp_path / "bad.npz", array(name, change)))


def test_noise_is_of_fits_with_a_lattice(tmp_path: Path) -> None:
    target = torch.from_numpy(picture(24, 20).astype(np.float32) / 255).permute(2, 0, 1)

    def fit() -> Fit:
        return Fit(target, 12, Recipe(steps=6, coding="plain"), TorchBackend())

    first, path = fit(), tmp_path / "fit.npz"
    first.run(4)
    checkpoint.save(first, path)
    with pytest.raises(igs.InputError, match="of a fit with noise"):
        checkpoint.restore(fit(), changed(path, tmp_path / "bad.npz", scalar("before_noise", [0.1, 0.1])))


def test_a_fit_that_has_just_diverged_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    target = torch.zeros(3, 8, 8)
    fit, path = Fit(target, 4, Recipe(steps=4), TorchBackend()), tmp_path / "fit.npz"
    checkpoint.save(fit, path)
    before = path.read_bytes()
    fit.state.model.position[0, 0] = torch.nan
    checkpoint.save(fit, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("at", [30, 70, 90, 100])  # rounded from step 50 on
def test_a_fit_goes_on_in_its_rounding_as_it_was(tmp_path: Path, at: int) -> None:
    """So large steps that the state of the checkpoint is better than what comes after it."""
    path = tmp_path / "fit.npz"
    settings = {
        **{"coding": "plain", "pos_bits": 7, "feat_bits": 4, "quantize_forward": 0.5, "steps": 100},
        **{"lr_schedule": "constant", "lr_position": 1.0, "lr_feature": 0.05, "num_gaussians": 30, "threads": 1},
    }
    whole = encode(
        picture(), **settings, on_step=lambda fit: checkpoint.save(fit, path) if fit.state.step == at else None
    )
    assert encode(picture(), **settings, resume=path).data == whole.data


def test_what_is_chosen_after_the_last_step_is_chosen_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the states with and without noise, seen with the same noise: of random numbers not drawn before."""
    drawn = []

    def choose(guards: Safeguards, fit: Fit) -> None:
        assert fit.noise is not None
        drawn.append(torch.rand(3, generator=fit.noise.generator).tolist())

    monkeypatch.setattr(Safeguards, "choose_after_noise", choose)
    path = tmp_path / "fit.npz"
    whole = encode(picture(), **SETTINGS, checkpoint=path)
    assert encode(picture(), **SETTINGS, resume=path).data == whole.data
    assert drawn[0] == drawn[1]
