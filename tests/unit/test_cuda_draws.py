"""Draws, maps and values at points on the device: as on the host. Emulated, or on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from cuda_cases import BACKENDS, open_backend, target

from igs.encoder.fitting import init, init_device
from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.places import DevicePlaces
from igs.encoder.recipe import Recipe


@pytest.fixture(params=BACKENDS)
def backend(request):
    return open_backend(request.param)


def test_all_of_a_fit_lies_where_its_backend_is(backend):
    """What grows and moves is drawn, sized and coloured by tensors of the device alone."""
    seen = []

    class Watched(DevicePlaces):
        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            if name not in ("gradient_map", "draw", "top", "values"):
                return found

            def called(*arguments, **named):
                result = found(*arguments, **named)
                seen.append((name, {t.device for t in (*arguments, result) if isinstance(t, torch.Tensor)}))
                return result

            return called

    fit = Fit(target(), 30, Recipe(steps=26), backend, seed=3)
    fit._places = Watched(fit.rng)
    fit.run()
    assert {name for name, _ in seen} == {"draw", "values"}
    assert {place for _, places in seen for place in places} == {fit.target.device}


@pytest.mark.parametrize("n", [1, 7, 25])
def test_the_largest_errors_are_found_alike(n):
    errors = torch.randint(0, 5, (2, 3, 4), generator=torch.Generator().manual_seed(n)).float()  # many are equal
    for error, found in zip(errors, init_device.top_positions(errors, n), strict=True):
        np.testing.assert_array_equal(found.numpy(), init.top_positions(error.double().numpy(), n))


def test_values_at_points_agree():
    points = torch.rand(2, 30, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 40
    pictures = torch.stack([target(), 1 - target()])
    for k in range(2):
        known = init.sample_bilinear(pictures[k].permute(1, 2, 0).numpy(), points[k].numpy())
        torch.testing.assert_close(init_device.sample_bilinear(pictures, points)[k], torch.from_numpy(known))


def test_draws_on_the_device_follow_the_map():
    weights = torch.tensor([[0.0, 1.0, 3.0], [0.0, 0.0, 0.0]])
    share = {}
    for draws in (
        [init_device.draw_positions(weights, 1, 0.25, 2.0, seed).numpy() for seed in range(2000)],
        [init.draw_positions(weights.numpy(), 1, 0.25, 2.0, np.random.default_rng(s)) for s in range(2000)],
    ):
        cells = np.floor(np.concatenate(draws)).astype(int)
        found = np.bincount(cells[:, 1] * 3 + cells[:, 0], minlength=6) / 2000
        share[len(share)] = found
        # 0.75·(1, 9)/10 and 0.25/6 each; four deviations of 2000 draws are 0.045
        assert found == pytest.approx([0.042, 0.117, 0.717, 0.042, 0.042, 0.042], abs=0.045)
    many = init_device.draw_positions(weights, 9, 0.0, 1.0, 1)
    assert many.shape == (9, 2)
    assert set(map(tuple, many[:2].floor().int().tolist())) == {(1, 0), (2, 0)}
    assert torch.equal(many, init_device.draw_positions(weights, 9, 0.0, 1.0, 1))
    assert init_device.draw_positions(torch.zeros(2, 3), 6, 0.0, 1.0, 1).shape == (6, 2)


def test_gradient_maps_agree():
    t = target(17, 1)
    for tensor in (t, target()):
        known = init.gradient_map(tensor.permute(1, 2, 0).numpy())
        torch.testing.assert_close(
            init_device.gradient_map(tensor).double(), torch.from_numpy(known), rtol=1e-5, atol=1e-6
        )
