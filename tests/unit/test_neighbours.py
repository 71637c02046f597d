"""How far apart points lie: by pairs and by cells, against SciPy's tree."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")
spatial = pytest.importorskip("scipy.spatial")

from igs.encoder.fitting import neighbours
from igs.encoder.fitting.neighbours import neighbour_distance


def known(points, among, limit):
    distance, _ = spatial.cKDTree(among.numpy()).query(points.numpy(), k=min(4, len(among)))
    return torch.from_numpy(np.clip(distance[:, 1:].mean(axis=1), 0.25, limit))


def random(*shape, seed=1):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("way", ["cells", "pairs", "pairs on a GPU"])
@pytest.mark.parametrize("count", [2, 3, 4, 39])
def test_distances_are_those_of_a_tree(monkeypatch, way, count):
    pairs = 0 if way == "cells" else 2**20
    monkeypatch.setattr(neighbours, "_MOST_PAIRS", (pairs, pairs))
    if way == "pairs on a GPU":
        monkeypatch.setattr(neighbours, "_distances", neighbours._distances_by_axis)
    points = random(2, count, 2) * torch.tensor([40.0, 30.0])
    among = torch.cat([points, random(2, 9, 2, seed=2) * 30], 1)
    for others in (points, among):
        found = neighbour_distance(points, others, 7.0)
        for k in range(2):
            torch.testing.assert_close(found[k], known(points[k], others[k], 7.0), rtol=1e-12, atol=0)


def test_a_point_alone_is_as_far_as_may_be():
    one = random(2, 1, 2)
    assert torch.equal(neighbour_distance(one, one, 7.0), torch.full((2, 1), 7.0).double())


def test_distances_of_very_many_points_need_few_pairs(monkeypatch):
    """Crowds, a line, copies of one point and some far away from all: 900 million pairs would be tried otherwise."""
    monkeypatch.setattr(torch, "cdist", None)  # would be called
    g = torch.Generator().manual_seed(1)

    def normal(n: int, *deviations: float) -> torch.Tensor:
        return 500 + torch.randn(n, 2, generator=g, dtype=torch.float64) * torch.tensor(deviations)

    flat = torch.rand(9996, 2, generator=g, dtype=torch.float64) * 1000
    points = torch.cat([flat, normal(10_000, 30, 30), normal(10_000, 200, 0.5), flat.new_tensor([[4e3, 9e3]] * 4)])
    points = torch.stack([points, points.flip(1)])
    for some in (points[:, :100], points):
        found = neighbour_distance(some, points, 1e9)
        for k in range(2):
            torch.testing.assert_close(found[k], known(some[k], points[k], 1e9), rtol=1e-12, atol=0)


@pytest.mark.parametrize("value", [3.0, float("nan"), float("inf")])
def test_distances_of_points_that_no_cell_parts(monkeypatch, value):
    monkeypatch.setattr(neighbours, "_MOST_PAIRS", (4, 4))
    points = torch.full((1, 9, 2), 3.0, dtype=torch.float64)
    points[0, 4] = value
    found = neighbour_distance(points, points, 7.0)
    assert torch.equal(found[0, :4], torch.full((4,), 0.25, dtype=torch.float64))
