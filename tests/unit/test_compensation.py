"""Rounding with compensation: better where the matrices say how, and never far off where they say nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from igs.encoder.raster.loss import LossWeights
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.rounding import compensation, sensitivity
from igs.encoder.rounding.lattice import Steps
from igs.encoder.rounding.sensitivity import Sensitivities
from igs.format import lattice as la

N, SIZE = 200, (10_000, 10_000)
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


def matrices(seed: int, rows: int) -> Sensitivities:
    """Of so many random points of each channel: of less than two there are directions in which nothing counts."""
    rng = np.random.default_rng(seed)
    sizes = np.array([3.0, 3.0, 9.0, 2.0, 2.0, 4.0])  # of about what a step of each changes
    scale = np.exp(rng.normal(size=(N, 1, 1)) * 3)
    form = rng.normal(size=(N, 3, rows, 5)) * sizes[:5] * scale[..., None]
    value = rng.normal(size=(N, rows)) * sizes[5] * scale[..., 0]
    return Sensitivities(
        np.einsum("ncpi,ncpj->nij", form, form) / rows,
        np.einsum("ncpi,np->nic", form, value) / rows,
        np.square(value).mean(1),
    )


def whole(blocks: Sensitivities) -> np.ndarray:
    """The matrices [N, G + C, G + C] that the parts are of."""
    form, channels = blocks.form.shape[1], blocks.mixed.shape[2]
    matrix = np.zeros((len(blocks.value), form + channels, form + channels))
    matrix[:, :form, :form], matrix[:, :form, form:] = blocks.form, blocks.mixed
    matrix[:, form:, :form] = blocks.mixed.transpose(0, 2, 1)
    matrix[:, form:, form:] = np.eye(channels) * blocks.value[:, None, None]
    return matrix


def moved(model: Model, columns: np.ndarray, blocks: Sensitivities | None) -> np.ndarray:
    """How far rounding moves each column [N, 8]."""
    costs = None if blocks is None else blocks.without_values()
    codes = compensation.codes(model, LATTICE, [0], costs, SIZE)
    there = compensation.decoded(codes, LATTICE, [0])
    found = np.concatenate(
        [there.scale.numpy(), there.rotation.numpy()[:, None], there.position.numpy(), there.feature.numpy()], axis=1
    )
    change = found.astype(np.float64) - columns
    change[:, 2] -= np.round(change[:, 2])
    return change


def test_compensation_lowers_what_the_matrices_measure() -> None:
    model, columns = gaussians(0)
    blocks = matrices(1, 4)

    def error(known: Sensitivities | None) -> np.ndarray:
        change = moved(model, columns, known)
        return np.einsum("ni,nij,nj->n", change, whole(blocks), change)

    ratio = error(blocks) / error(None)
    assert np.exp(np.log(ratio).mean()) < 0.8
    assert (ratio < 0.9).sum() > 3 * (ratio > 1.1).sum()


def test_more_ways_cost_less(monkeypatch: pytest.MonkeyPatch) -> None:
    model, columns = gaussians(6)
    blocks = matrices(7, 4)
    errors = []
    for ways in (1, compensation.WAYS, 64):
        monkeypatch.setattr(compensation, "WAYS", ways)
        change = moved(model, columns, blocks)
        errors.append(np.einsum("ni,nij,nj->n", change, whole(blocks), change))
    gains = [np.exp(np.log(error / errors[0]).mean()) for error in errors]
    assert gains[1] < 0.9
    assert gains[2] < gains[1] + 0.02


def test_luma_makes_up_for_chroma() -> None:
    """Forms that cost nothing, values that cost the same: what is left is the rounding of luma and chroma."""
    model, columns = gaussians(8)
    blocks = Sensitivities(np.eye(5)[None].repeat(N, 0), np.zeros((N, 5, 3)), np.ones(N))

    def error(known: Sensitivities | None) -> float:
        return float(np.square(moved(model, columns, known)[:, 5:]).sum(axis=1).mean())

    assert error(blocks) < 0.9 * error(None)


def test_no_attribute_moves_far_where_nothing_holds_it() -> None:
    model, columns = gaussians(2)
    for rows in (1, 2, 3):
        change = np.abs(moved(model, columns, matrices(rows, rows)))
        sigma1, root = np.exp(columns[:, 0]), np.exp(columns[:, 1] / 2)
        most = compensation._MOST + 0.5
        octave = la.step_value(LATTICE.ratio) / root * math.log(2)
        assert (change[:, 1] <= la.step_value(LATTICE.minor) / root * 2.4).all()  # rounded first: to one of two
        assert (change[:, 0] <= most * octave * 1.1).all()
        # The lattice of places has pitches of a share of the deviations; along the long axis the larger one.
        plain = np.abs(moved(model, columns, None))
        assert (np.hypot(change[:, 3], change[:, 4]) <= 8 * sigma1).all()
        assert (change[:, 5:] <= 10 * (plain[:, 5:].max() + 1e-9)).all()


@pytest.mark.parametrize("blend", ["topk", "sum"])
def test_parts_are_those_of_the_jacobian(blend: str) -> None:
    """Of every channel, and nothing is left out: a change of one channel's value doesn't show in another."""
    rng = np.random.default_rng(3)
    shape, size = (3, 8, 12), np.array([12.0, 8.0])
    parts = rng.uniform(0, size, (5, 2)), rng.uniform(0.5, 1.3, (5, 2)), rng.uniform(0, 1, 5), rng.uniform(0, 1, (5, 3))
    model = Model.of((torch.from_numpy(part).float() for part in parts), "log")
    weight = torch.from_numpy(rng.uniform(0.5, 2.0, shape[1:])).float()
    options, backend = RasterOptions(12, 8, top_k=4, blend=blend), TorchBackend()
    image, squared = backend.render(model, options), LossWeights(0.0, 1.0, 0.0)

    def pullback(picture: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """From the gradient of the squared distance to a picture that differs by this one."""
        grads = backend.step(model, options, image - picture, squared).grads
        return tuple(grad * (picture.numel() / 2) for grad in grads)

    points = torch.eye(image.numel()).view(-1, *shape) * weight.sqrt()
    rows = [(s, r[:, None], p, f) for p, s, r, f in map(pullback, points)]
    jacobian = np.stack([torch.cat(row, dim=1).double().numpy() for row in rows])
    exact = np.einsum("pni,pnj->nij", jacobian, jacobian)
    found = sensitivity.sensitivities(pullback, shape, 0, probes=800, weight=weight)
    root = np.sqrt(np.einsum("nii->ni", exact))
    unit = root[:, :, None] * root[:, None, :]
    seen = unit > 1e-9 * unit.max()
    assert (np.abs(whole(found) - exact)[seen] < 0.2 * unit[seen]).all()  # 1/√800 is 0.035
    across = exact[:, 5:, 5:][:, ~np.eye(3, dtype=bool)]
    assert (across == 0).all()


def test_of_as_many_channels_as_signs_the_values_say_nothing() -> None:
    """Of 64 signs a mean over 64 channels is chance: what it makes of a form's change must stay small."""
    rng = np.random.default_rng(4)
    signs = rng.normal(size=(50, sensitivity.PROBES, 5 + 64))  # no number has to do with another
    products = np.einsum("npi,npj->nij", signs, signs) / sensitivity.PROBES
    values = np.einsum("nii->ni", products[:, 5:, 5:]).mean(1)
    matrix, response, _value = Sensitivities(products[:, :5, :5], products[:, :5, 5:], values).without_values()
    assert (response == 0).all()
    assert (np.linalg.eigvalsh(matrix)[:, 0] > 0.2).all()
    half = Sensitivities(products[:, :5, :5], products[:, :5, 5:37], values).without_values()
    assert (np.linalg.eigvalsh(half[0])[:, 0] > 0).all()


def test_random_signs() -> None:
    generator = torch.Generator().manual_seed(5)
    signs = sensitivity._signs((3, 101, 103), generator)  # not a multiple of eight
    assert signs.shape == (3, 101, 103)
    assert signs.dtype == torch.float32
    assert bool((signs.abs() == 1).all())
    assert abs(float(signs.mean())) < 0.03  # 5 standard deviations
    beside = float((signs[:, :, 1:] * signs[:, :, :-1]).mean())
    assert abs(beside) < 0.03
    assert not torch.equal(signs, sensitivity._signs((3, 101, 103), generator))
