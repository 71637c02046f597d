"""Learned quantisers: LSQ+ steps, residual codebooks, half floats, and what a model becomes under them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from igs.encoder.raster.model import Model
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.codebook import ResidualCodebook, kmeans, nearest
from igs.encoder.rounding.learned import Rounding, is_learned
from igs.encoder.rounding.lsq import HalfFloat, LearnedStep, best_range, round_reference


def normal(n=400, columns=3, seed=0, dtype=torch.float64):
    return torch.randn(n, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# -- learned steps


def test_rounding_is_the_formats():
    values = normal()
    learned = LearnedStep(values, 5, 0.01)
    quantizer = learned.quantizer()
    decoded = quantizer.decode(quantizer.encode(values.numpy()))
    # offset and step are binary32 in the file
    np.testing.assert_allclose(learned.round(values).numpy(), decoded, rtol=1e-6, atol=2e-6)


def test_gradients_are_those_of_the_straight_through_rule():
    values, grad = normal(50, 2), normal(50, 2, seed=1)
    learned = LearnedStep(values, 4, 0.01)
    learned.step = learned.step * 0.6  # so that some values are outside
    leaves = [t.clone().requires_grad_() for t in (values, learned.offset, learned.step)]
    expected = torch.autograd.grad(round_reference(*leaves, learned.top), leaves, grad)
    found = learned.gradients(values, grad)
    scale = (learned.top * values.numel()) ** -0.5
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1] * scale)
    torch.testing.assert_close(found[2], expected[2] * scale)


@pytest.mark.parametrize("bits", [3, 6, 12])
def test_first_range_is_no_worse_than_the_whole_one(bits):
    values = normal(2000, 2) ** 3  # long tails
    top = 2**bits - 1
    low = values.amin(0)
    whole = round_reference(values, low, (values.amax(0) - low) / top, top)
    found = round_reference(values, *best_range(values, bits), top)
    assert (((found - values) ** 2).sum(0) <= ((whole - values) ** 2).sum(0)).all()


def test_equal_values_are_kept():
    values = torch.full((9, 2), 0.3)
    torch.testing.assert_close(LearnedStep(values, 6, 0.01).round(values), values)


def test_learning_lowers_the_error():
    values = normal(1000, 2) ** 3
    learned = LearnedStep(values, 4, 0.02)
    low = values.amin(0)
    learned.offset, learned.step = low, (values.amax(0) - low) / learned.top  # the whole range: a poor start
    before = ((learned.round(values) - values) ** 2).mean()
    for _ in range(400):
        learned.learn(values, 2 * (learned.round(values) - values) / values.numel())
    assert ((learned.round(values) - values) ** 2).mean() < 0.85 * before


# -- codebooks


def test_kmeans_finds_clusters():
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 5.0]], dtype=torch.float64)
    values = centres.repeat(50, 1) + 0.1 * normal(200, 2)
    table = kmeans(values, 4, 20, np.random.default_rng(0))
    found = table[nearest(centres, table)]
    torch.testing.assert_close(found, centres, atol=0.1, rtol=0)


def test_codebook_is_the_formats():
    values = normal()
    book = ResidualCodebook(values, 3, 2, 1.0)
    quantizer = book.quantizer()
    assert quantizer.code_bits == (3, 3)
    decoded = quantizer.decode(quantizer.encode(values.numpy()))
    np.testing.assert_allclose(book.round(values).numpy(), decoded, rtol=1e-6, atol=1e-6)


def test_a_second_stage_and_more_rows_help():
    values = normal()
    errors = [
        float(((ResidualCodebook(values, bits, stages, 1.0).round(values) - values) ** 2).mean())
        for bits, stages in ((3, 1), (3, 2), (6, 2))
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_tables_follow_the_values_and_values_the_tables():
    values = normal(300, 3)
    book = ResidualCodebook(values, 2, 2, 1.0)
    moved = values + 0.5
    before = ((book.round(moved) - moved) ** 2).mean()
    for _ in range(30):
        book.update(moved)
    assert ((book.round(moved) - moved) ** 2).mean() < before
    zero = torch.zeros_like(moved)
    pulled = moved - 50 * book.learn(moved, zero)
    assert ((book.round(pulled) - pulled) ** 2).mean() < ((book.round(moved) - moved) ** 2).mean()
    assert torch.equal(ResidualCodebook(values, 2, 2, 0.0).learn(moved, zero), zero)


def test_fewer_values_than_rows():
    values = torch.tensor([[0.2, 0.4, 0.6]])
    torch.testing.assert_close(ResidualCodebook(values, 4, 2, 1.0).round(values), values)


def test_half_floats():
    values = normal(dtype=torch.float32) * 300
    quantizer = HalfFloat(values).quantizer()
    decoded = quantizer.decode(quantizer.encode(values.numpy()))
    np.testing.assert_array_equal(HalfFloat(values).round(values).double().numpy(), decoded)


# -- a model


def model(scale_map, n=60):
    g = torch.Generator().manual_seed(3)
    scale = {
        "log": lambda t: t,
        "raw": lambda t: t + 1,
        "inverse": lambda t: t + 0.2,
        "cholesky": lambda t: t + 0.5,
        "covariance": lambda t: t + 2.0,
    }[scale_map](torch.rand(n, 2, generator=g))
    rotation = torch.rand(n, generator=g) * (1 if scale_map in ("log", "raw", "inverse") else 0.5)
    return Model(50 * torch.rand(n, 2, generator=g), scale, rotation, torch.rand(n, 3, generator=g), scale_map)


def recipe(scale_map, **change):
    matrix = scale_map in ("cholesky", "covariance")
    shape = {"shape": scale_map} if matrix else {"scale_parameter": scale_map}
    kinds = {"pos_quantizer": "learned", "shape_quantizer": "learned", "feat_quantizer": "learned"}
    return Recipe(**(kinds | shape | {"pos_bits": 16, "scale_bits": 16, "rot_bits": 16, "feat_bits": 16} | change))


@pytest.mark.parametrize("scale_map", ["log", "raw", "inverse", "cholesky", "covariance"])
def test_fine_rounding_hardly_changes_a_model_or_its_gradients(scale_map):
    m = model(scale_map)
    rounding = Rounding(m, recipe(scale_map))
    seen = rounding.round(m)
    for value, rounded in zip(m.tensors(), seen.tensors(), strict=True):
        torch.testing.assert_close(rounded, value, atol=2e-3, rtol=1e-3)
    grads = tuple(torch.randn_like(t) for t in m.tensors())
    for found, given in zip(rounding.learn(m, seen, grads), grads, strict=True):
        found, given = found.reshape(len(m), -1), given.reshape(len(m), -1)
        # the smallest and the largest value of a column may lie a rounding error outside its range
        close = (found - given).abs() <= 1e-2 * given.abs() + 1e-5
        assert close.double().mean() > 0.9


@pytest.mark.parametrize("change", [{"pos_quantizer": "float16"}, {"feat_quantizer": "codebook", "feat_bits": 4}, {}])
@pytest.mark.parametrize("shape_quantizer", ["learned", "uniform"])
@pytest.mark.parametrize("scale_map", ["log", "covariance"])
def test_every_mixture_gives_quantizers_of_the_right_columns(scale_map, shape_quantizer, change):
    m = model(scale_map)
    r = recipe(scale_map, shape_quantizer=shape_quantizer, **change)
    quantizers = Rounding(m, r).quantizers()
    assert [q.columns for q in quantizers] == [2, 2, 1, 3]


def test_which_recipes_learn():
    assert not is_learned(Recipe())
    assert is_learned(Recipe(feat_quantizer="codebook"))
