"""Which way edges run, and new Gaussians that lie along them."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from cuda_cases import BACKENDS, open_backend

from igs.encoder.fitting import edges
from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.population import SIGMA_LOW
from igs.encoder.raster import shapes
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.recipe import Recipe


def stripes(turn, width=56, height=40, period=8.0, channels=3):
    """[C, H, W] in 0 to 1: waves whose crests run at ``turn`` half-turns."""
    y, x = np.mgrid[:height, :width] + 0.5
    angle = math.pi * turn
    wave = np.sin(2 * math.pi / period * (x * math.sin(angle) - y * math.cos(angle)))
    return torch.from_numpy(np.stack([0.5 + 0.5 * wave / (c + 1) for c in range(channels)]).astype(np.float32))


def apart(turn, other):
    """How far angles are apart, in half-turns, of which one is none."""
    return ((turn - other + 0.5) % 1.0 - 0.5).abs()


@pytest.mark.parametrize("turn", [0.0, 0.1, 0.25, 0.5, 0.7, 0.95])
def test_edges_run_along_stripes(turn):
    found = edges.edge_map(stripes(turn)[None])
    assert found.shape == (1, 2, 40, 56)
    inside = found[0, :, 6:-6, 6:-6].flatten(1).T
    longer, rotation = edges.along(inside, 1.5)
    assert ((rotation >= 0) & (rotation < 1)).all()
    assert apart(rotation, turn).max() < 0.02
    assert longer.min() > 0.97 * math.exp(1.5)
    assert longer.max() <= math.exp(1.5)


def test_where_no_direction_prevails_there_is_no_edge():
    flat = torch.full((3, 30, 40), 0.3)
    assert edges.edge_map(flat[None]).abs().max() == 0
    assert edges.edge_map(flat[None] + 1e-4 * torch.rand(1, 3, 30, 40)).abs().max() < 0.01  # as rounding leaves it
    both = (stripes(0.0) + stripes(0.5)) / 2
    assert edges.edge_map(both[None])[0, :, 8:-8, 8:-8].mean(dim=(1, 2)).abs().max() < 0.05


def test_all_channels_count():
    """A slope of one channel only, whichever it is, and of two that cancel in grey."""
    for channel in range(3):
        picture = torch.full((1, 3, 40, 56), 0.5)
        picture[0, channel] = stripes(0.3)[0]
        assert apart(edges.along(edges.edge_map(picture)[0, :, 20, 20:30].T, 1.0)[1], 0.3).max() < 0.02
    picture[0, 0] = 1 - stripes(0.3)[0]
    assert apart(edges.along(edges.edge_map(picture)[0, :, 20, 20:30].T, 1.0)[1], 0.3).max() < 0.02


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3)])
def test_small_pictures_have_edges_too(shape):
    found = edges.edge_map(torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0)))
    assert found.shape == (2, 2, *shape)
    assert found.norm(dim=1).max() <= 1


def test_every_picture_has_its_own_edges():
    turns = (0.2, 0.8)
    together = edges.edge_map(torch.stack([stripes(t) for t in turns]))
    for turn, found in zip(turns, together, strict=True):
        assert torch.equal(found, edges.edge_map(stripes(turn)[None])[0])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"scale_parameter": "raw"},
        {"scale_parameter": "inverse"},
        {"shape": "cholesky", "coding": "plain"},
        {"shape": "covariance", "coding": "plain"},
        {"lowpass_alpha": 400.0, "coding": "plain"},
    ],
    ids=str,
)
def test_new_gaussians_lie_along_edges(fields):
    """The first ones, and those that are added; beside round ones at the same places."""
    points = torch.rand(1, 40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points = 6 + points * torch.tensor([44.0, 28.0], dtype=torch.float64)
    lowpass, first, added = 0.0, [], []
    for stretch in (1.0, 0.0):
        fit = Fit(stripes(0.15), 60, Recipe(steps=2, edge_stretch=stretch, **fields), TorchBackend(), seed=2)
        lowpass = fit.options.lowpass
        first.append(fit.state.model)
        added.append(fit._added(points, points, None))
    assert (lowpass > 0) == ("lowpass_alpha" in fields)
    for model, plain in (first, added):
        assert torch.equal(model.position, plain.position)
        (major, minor, turn), (sigma, same, _) = (_axes(m, lowpass) for m in (model, plain))
        torch.testing.assert_close(sigma, same)
        inside = ((model.position > 6) & (model.position < torch.tensor([50.0, 34.0]))).all(dim=1)
        inside &= sigma > 1.01 * math.sqrt(SIGMA_LOW**2 + lowpass)  # where none is the thinnest without an edge
        assert inside.sum() >= 8
        assert apart(turn[inside], 0.15).max() < 0.03
        torch.testing.assert_close(major[inside], math.e * sigma[inside], rtol=0.03, atol=0)
        least = math.sqrt(SIGMA_LOW**2 + lowpass)
        torch.testing.assert_close(minor[inside], (sigma / math.e).clamp_min(least)[inside], rtol=0.03, atol=0)


def _axes(model, lowpass):
    """As drawn: major and minor deviations in pixels, and the angle of the major one in half-turns."""
    scale, rotation, map_ = shapes.axes(model.scale, model.rotation, model.scale_map)
    sigma = (shapes.deviations(scale, rotation, map_).square() + lowpass).sqrt()
    turned = sigma[:, 1] > sigma[:, 0]
    return sigma.max(dim=1).values, sigma.min(dim=1).values, (rotation + 0.5 * turned) % 1.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_device_has_the_same_edges(backend):
    backend = open_backend(backend)
    pictures = torch.stack([stripes(0.2), stripes(0.6)])
    found = edges.edge_map(pictures.to(backend.place))
    assert found.device == backend.place
    torch.testing.assert_close(found.cpu(), edges.edge_map(pictures), rtol=0, atol=1e-5)
