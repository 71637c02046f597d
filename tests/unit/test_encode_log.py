"""Along the way of a fit: checkpoints, pictures, log lines."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

import numpy as np
from encoder_cases import picture, small
from PIL import Image

import igs
from igs.decoder import output
from igs.encoder import encode, targets
from igs.encoder.fitting import checkpoint


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
    for change, message in (
        ({"seed": 3}, "another seed"),
        ({"levels": 2, "steps": 40}, "another number of levels"),
        ({"roi": [(0, 0, 5, 5)]}, "another weighting of pixels"),
    ):
        with pytest.raises(igs.UsageError, match=message):
            encode(picture(), **(settings | change), resume=kept)
    with pytest.raises(igs.UsageError, match="another picture"):
        encode(255 - picture(), **settings, resume=kept)
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


@pytest.mark.parametrize("at", [30, 60])
def test_a_fit_that_is_filled_up_goes_on_where_it_was(tmp_path, monkeypatch, at):
    settings = {"steps": 60, "size": 4000, "preset": "gaussianimage", "codec": "columns"}
    kept, save = tmp_path / "kept.npz", checkpoint.save
    steps = []

    def keep(fit, path):
        steps.append(fit.state.step)
        if fit.state.step == at:
            save(fit, path)

    monkeypatch.setattr(checkpoint, "save", keep)
    whole = encode(picture(120, 90), **settings, checkpoint=kept, checkpoint_every=1)
    assert whole.report["steps"] > 60  # Gaussians were added
    assert max(steps) == 60
    assert encode(picture(120, 90), **settings, resume=kept).data == whole.data


def test_a_coded_fit_goes_on_in_its_noise_as_it_was(tmp_path):
    settings = {"steps": 60, "num_gaussians": 40, "coarseness": 90.0}  # so coarse that noise is taken back
    whole = encode(picture(), **settings)
    for every in (50, 55):
        path = tmp_path / f"{every}.npz"
        saved = []

        def keep(fit, path=path, every=every, saved=saved):
            if fit.state.step == every:
                checkpoint.save(fit, path)
                saved.append(fit.guards.before_noise)

        encode(picture(), **settings, on_step=keep)
        assert saved[0] is not None
        assert encode(picture(), **settings, resume=path).data == whole.data


@pytest.mark.parametrize("option", ["checkpoint", "resume"])
def test_a_psnr_target_has_no_checkpoints(tmp_path, option):
    kept = tmp_path / "fit.npz"
    with pytest.raises(igs.UsageError, match=f"{option}: expected a fit with a known number .* found a PSNR target"):
        encode(picture(), psnr=20, effort=1, threads=1, **{option: kept})
    assert not kept.exists()


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


@pytest.mark.parametrize(("linear_light", "transfer"), [(True, "auto"), (False, "pq"), (False, "log")])
def test_pictures_are_shown_by_what_their_values_mean(tmp_path, linear_light, transfer):
    """The picture of the last step is the decoded file's as it looks, but for the rounding of its codes."""
    image = picture().astype(np.float32) / 255 if transfer != "auto" else picture()
    settings = {"steps": 40, "num_gaussians": 100, "linear_light": linear_light, "transfer": transfer}
    data = encode(image, **settings, render_every=40, render_dir=tmp_path).data
    with igs.open(data) as im:
        expected = output.visible(im.decode(dtype="float32"), im.groups)
    with Image.open(tmp_path / "step_000040.png") as found:
        assert found.mode == "RGB"
        assert np.abs(np.asarray(found, np.float64) / 255 - expected).mean() < 0.02
