"""Encodes on a GPU that isn't there (tests/pretended_gpu.py): nothing of two places meets, and steps don't wait."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cuda_cases import picture, target
from pretended_gpu import PLACE, Mixed, Pretended, There, gpu

import igs
from igs.encoder.fitting import interlace
from igs.encoder.fitting.fit import CONSIDER_EVERY, Fit
from igs.encoder.fitting.fit_batch import FitBatch
from igs.encoder.raster.cuda_backend import open_device
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.lattice import Noise

__all__ = ["gpu"]  # the fixture


def test_what_a_device_refuses_is_refused(gpu: Pretended) -> None:
    there, here = torch.ones(3, device=PLACE), torch.ones(3)
    assert isinstance(there, There)
    assert there.device == PLACE
    with pytest.raises(Mixed):
        there + here
    with pytest.raises(TypeError, match="to numpy"):
        np.asarray(there)
    assert not gpu.waits
    assert (there * 2 + here.to(PLACE)).cpu().tolist() == [3, 3, 3]
    assert gpu.waits == {"copy to the device": 1, "copy to the host": 1}
    assert float(there.sum()) == 3
    assert there[there > 0].shape == (3,)
    assert (gpu.waits["_local_scalar_dense"], gpu.waits["mask"]) == (1, 1)


@pytest.mark.parametrize("noisy", [False, True])
def test_steps_do_not_wait_for_the_device(gpu: Pretended, noisy: bool) -> None:
    backend = open_device()
    fit = Fit(target(), 40, Recipe(steps=400, relocate=0.0, noise_from=0.1 if noisy else 1.0), backend)
    fit.noise = Noise(3, 3, [0], 0, backend)
    fit.run(130)  # all Gaussians are there
    waits = {}
    for _ in range(3 * CONSIDER_EVERY):
        gpu.waits.clear()
        step = fit.state.step
        fit._step(False)
        waits[step] = +gpu.waits
    assert fit.noisy() == noisy
    # Whether the fit diverged and is the best so far is looked at now and then, and so is how full the lists are.
    quiet = [step for step, found in waits.items() if step % CONSIDER_EVERY and found]
    assert len(quiet) <= 1
    assert sum(map(bool, waits.values())) >= 2


def test_steps_of_many_pictures_do_not_wait_either(gpu: Pretended) -> None:
    fits = FitBatch([target(), target().flip(2)], 12, Recipe(steps=40, relocate=0.0), open_device())
    models = fits.fit()
    assert [len(model) for model in models] == [12, 12]
    assert all(model.position.device.type == "cpu" for model in models)


@pytest.mark.parametrize(
    "options",
    [
        {"size": 250},
        {"quality": 40},
        {"psnr": 18.0},
        {"num_gaussians": 12, "levels": 3, "relocate": 0.2, "steps": 50},
        {"num_gaussians": 8, "downsample": 2},
        {"num_gaussians": 10, "preset": "image-gs"},
        {"bpp": 2.0, "preset": "gaussianimage"},
        {"bpp": 2.0, "preset": "gaussianimage++"},
        {"num_gaussians": 10, "primitive": "gradient", "rate_weight": 0.5},
        {"num_gaussians": 10, "roi": [(4, 4, 12, 12, 8.0)], "saliency_weight": 2.0},
        {"num_gaussians": 10, "growth_where": "top", "growth_color": "residual", "init": "random"},
        {"num_gaussians": 10, "loss_l1": 0.3, "loss_ssim": 0.1, "lr_position_unit": "picture"},
        {"num_gaussians": 10, "steps": 0},
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_encodes_run(gpu: Pretended, options: dict) -> None:
    encoded = igs.encode(picture(44, 32), device="cuda", **{"steps": 12, **options})
    assert (encoded.report["device"], encoded.report["backend"]) == ("cuda", "cuda-sm_90")
    with igs.open(encoded.data) as image:
        assert image.num_gaussians == encoded.report["num_gaussians"]


def test_a_stack_and_interlaced_steps(gpu: Pretended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interlace, "LEAST_PIXELS", 1)
    maps = {"albedo": picture(48, 40), "height": picture(48, 40)[..., :1]}
    encoded = igs.encode(maps, device="cuda", bpp=2.0, steps=16, parts="each")
    assert [group["name"] for group in encoded.report["groups"]] == ["albedo", "height"]


def test_super_tiles(gpu: Pretended) -> None:
    encoded = igs.encode(picture(130, 66), device="cuda", num_gaussians=128, steps=3, super_tile=66)
    assert (encoded.report["super_tiles"], encoded.report["num_gaussians"]) == (2, 128)
