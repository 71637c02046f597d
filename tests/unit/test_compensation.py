"""Rounding with compensation: better where the matrices say how, and never far off where they say nothing."""

from __future__ import annotations

import math

import numpy as np
import torch

from igs.encoder.raster.backend import Model
from igs.encoder.rounding import compensation
from igs.encoder.rounding.lattice import Steps
from igs.format import lattice as la

N, BOUNDS = 200, (np.full(2, -1e4), np.full(2, 1e4))
LATTICE = Steps.of(1.0, 3, 3, [0]).record(True)


def gaussians(seed: int) -> tuple[Model, np.ndarray]:
    """Log scales, larger first, and the same as columns [N, 8] in the order of the matrices."""
    rng = np.random.default_rng(seed)
    minor = rng.uniform(0.7, 3.0, N)
    columns = np.stack(
        [np.log(minor * rng.uniform(1.6, 4.0, N)), np.log(minor), rng.uniform(0, 1, N), *rng.uniform(50, 200, (2, N))],
        1,
    )
    columns = np.concatenate([columns, rng.uniform(0.2, 0.8, (N, 3))], axis=1)
    parts = columns[:, :2], columns[:, 2], columns[:, 3:5], columns[:, 5:]
    scale, rotation, position, feature = (torch.from_numpy(np.ascontiguousarray(p)).float() for p in parts)
    return Model(position, scale, rotation, feature, "log"), columns


def matrices(seed: int, probes: int) -> np.ndarray:
    """Blocks [N, 8, 8] from as many random gradients: of fewer than 8 there are directions in which nothing counts."""
    rng = np.random.default_rng(seed)
    sizes = np.array([3.0, 3.0, 9.0, 2.0, 2.0, 4.0, 4.0, 4.0])  # of about what a step of each changes
    g = rng.normal(size=(N, probes, 8)) * sizes * np.exp(rng.normal(size=(N, 1, 1)) * 3)
    return np.einsum("npi,npj->nij", g, g) / probes


def moved(model: Model, columns: np.ndarray, blocks: np.ndarray | None) -> np.ndarray:
    """How far rounding moves each column [N, 8]."""
    codes = compensation.codes(model, LATTICE, [0], blocks, BOUNDS)
    there = compensation.decoded(codes, LATTICE, [0])
    found = np.concatenate(
        [there.scale.numpy(), there.rotation.numpy()[:, None], there.position.numpy(), there.feature.numpy()], axis=1
    )
    change = found.astype(np.float64) - columns
    change[:, 2] -= np.round(change[:, 2])
    return change


def test_compensation_lowers_what_the_matrices_measure() -> None:
    model, columns = gaussians(0)
    blocks = matrices(1, 12)

    def error(blocks_known: np.ndarray | None) -> np.ndarray:
        change = moved(model, columns, blocks_known)
        return np.einsum("ni,nij,nj->n", change, blocks, change)

    ratio = error(blocks) / error(None)
    assert np.exp(np.log(ratio).mean()) < 0.8
    assert (ratio < 0.9).sum() > 3 * (ratio > 1.1).sum()


def test_no_attribute_moves_far_where_nothing_holds_it() -> None:
    model, columns = gaussians(2)
    for probes in (1, 3, 8):
        change = np.abs(moved(model, columns, matrices(probes, probes)))
        sigma1, root = np.exp(columns[:, 0]), np.exp(columns[:, 1] / 2)
        most = compensation._MOST + 0.5
        octave = la.step_value(LATTICE.ratio) / root * math.log(2)
        assert (change[:, 1] <= la.step_value(LATTICE.minor) / root * 1.2).all()  # rounded first: to its nearest
        assert (change[:, 0] <= most * octave * 1.1).all()
        # The lattice of places has pitches of a share of the deviations; along the long axis the larger one.
        plain = np.abs(moved(model, columns, None))
        assert (np.hypot(change[:, 3], change[:, 4]) <= 8 * sigma1).all()
        assert (change[:, 5:] <= 10 * (plain[:, 5:].max() + 1e-9)).all()


def test_random_signs() -> None:
    generator = torch.Generator().manual_seed(5)
    signs = compensation._signs((3, 101, 103), generator)  # not a multiple of eight
    assert signs.shape == (3, 101, 103)
    assert signs.dtype == torch.float32
    assert bool((signs.abs() == 1).all())
    assert abs(float(signs.mean())) < 0.03  # 5 standard deviations
    beside = float((signs[:, :, 1:] * signs[:, :, :-1]).mean())
    assert abs(beside) < 0.03
    assert not torch.equal(signs, compensation._signs((3, 101, 103), generator))
