"""The parameterisations of a Gaussian's shape: against the format's own arithmetic, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from igs.encoder.raster import shapes
from igs.encoder.raster.reference import factors_reference
from igs.format import Group, Header, Quantizer, ScaleMap, Shape, dequantize, quantize

MAPS = ("raw", "inverse", "log", "cholesky", "covariance")
MATRICES = shapes.MATRIX_MAPS


def gaussians(n=40, seed=0, dtype=torch.float64):
    """Deviations [n, 2] from 0.5 to 30 pixels, any angle."""
    g = torch.Generator().manual_seed(seed)
    sigma = torch.exp(torch.rand(n, 2, generator=g, dtype=torch.float64) * 4 - 0.7)
    return sigma.to(dtype), torch.rand(n, generator=g, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("lowpass", [0.0, 2.5])
@pytest.mark.parametrize("scale_map", MATRICES)
def test_factors_are_those_of_the_rotated_deviations(scale_map, lowpass):
    sigma, angle = gaussians()
    expected = factors_reference(sigma, angle, "raw", lowpass=lowpass)
    found = shapes.matrix_factors_reference(*shapes.parameters(sigma, angle, scale_map), scale_map, lowpass)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lowpass", [0.0, 2.5])
@pytest.mark.parametrize("scale_map", MATRICES)
def test_gradient(scale_map, lowpass):
    scale, rotation = shapes.parameters(*gaussians(12), scale_map)
    leaves = scale.requires_grad_(), rotation.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, r: shapes.matrix_factors_reference(s, r, scale_map, lowpass), leaves, rtol=1e-5, atol=1e-7
    )
    grad = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.autograd.grad(shapes.matrix_factors_reference(*leaves, scale_map, lowpass), leaves, grad)
    found = shapes.matrix_factors_gradient(scale.detach(), rotation.detach(), grad, scale_map, lowpass)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale_map", MATRICES)
def test_long_thin_gaussians_keep_their_factors_in_float32(scale_map):
    sigma, angle = torch.tensor([[60.0, 0.5]]), torch.tensor([0.13])
    expected = factors_reference(sigma.double(), angle.double(), "raw")
    found = shapes.matrix_factors(*shapes.parameters(sigma, angle, scale_map), scale_map)
    assert found.dtype == torch.float32
    # The entries themselves are float32: (σ1/σ2)²·2^-24 = 0.0009 is what their rounding can do to the determinant.
    torch.testing.assert_close(found.double(), expected, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("scale_map", MATRICES)
def test_the_format_decodes_the_same_shape(scale_map):
    sigma, angle = gaussians(dtype=torch.float32)
    scale, rotation = shapes.parameters(sigma, angle, scale_map)
    header = Header(
        width=10, height=10, channels=1, groups=(Group(channels=1),), background=(0.0,),
        position=Quantizer.float32(2), scale=Quantizer.float32(2), rotation=Quantizer.float32(1),
        feature=Quantizer.float32(1), shape=Shape[scale_map.upper()], scale_map=ScaleMap.RAW, lowpass=0.75,
    )  # fmt: skip
    n = len(sigma)
    codes = quantize(header, np.zeros((n, 2)), scale.numpy(), rotation.numpy()[:, None], np.zeros((n, 1)))
    decoded = dequantize(header, codes)
    found = shapes.matrix_factors(scale, rotation, scale_map, 0.75).numpy()
    np.testing.assert_allclose(decoded.factors * 2.0**14, found, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("scale_map", MAPS)
def test_deviations_invert_parameters(scale_map):
    sigma, angle = gaussians()
    found = shapes.deviations(*shapes.parameters(sigma, angle, scale_map), scale_map)
    expected = sigma.sort(dim=1, descending=True).values if shapes.is_matrix(scale_map) else sigma
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale_map", MAPS)
def test_bounds_move_only_what_is_outside(scale_map):
    sigma, angle = gaussians()
    scale, rotation = shapes.parameters(sigma, angle, scale_map)
    before = scale.clone(), rotation.clone()
    shapes.bound_shapes(scale, rotation, scale_map, 0.9, 12.0)
    inside = ((sigma >= 0.9) & (sigma <= 12.0)).all(dim=1)
    assert 0 < inside.sum() < len(sigma)
    assert torch.equal(scale[inside], before[0][inside])
    assert torch.equal(rotation[inside], before[1][inside])
    found = shapes.deviations(scale, rotation, scale_map)
    expected = shapes.deviations(*before, scale_map).clamp(0.9, 12.0)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale_map", MATRICES)
def test_a_matrix_that_is_not_definite_becomes_one(scale_map):
    scale, rotation = torch.tensor([[4.0, 1.0], [0.0, 0.0], [-3.0, 2.0]]), torch.tensor([5.0, 0.0, 1.0])
    shapes.bound_shapes(scale, rotation, scale_map, 0.5, 100.0)
    sxx, syy, sxy = shapes.covariance_entries(scale.double(), rotation.double(), scale_map)
    assert (sxx * syy - sxy * sxy > 0.05).all()
    assert torch.isfinite(shapes.matrix_factors(scale, rotation, scale_map)).all()


@pytest.mark.parametrize("scale_map", MAPS)
def test_axes_are_deviations_and_an_angle(scale_map):
    sigma, angle = gaussians()
    scale, rotation, plain = shapes.axes(*shapes.parameters(sigma, angle, scale_map), scale_map)
    assert not shapes.is_matrix(plain)
    found = factors_reference(scale, rotation, plain)
    torch.testing.assert_close(found, factors_reference(sigma, angle, "raw"), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale_map", MAPS)
def test_enlarged(scale_map):
    sigma, angle = gaussians()
    factor = torch.linspace(0.5, 3, len(sigma), dtype=torch.float64)
    scale, rotation = shapes.enlarge(*shapes.parameters(sigma, angle, scale_map), scale_map, factor)
    expected = shapes.parameters(sigma * factor[:, None], angle, scale_map)
    torch.testing.assert_close(scale, expected[0], rtol=1e-6, atol=1e-6)
    if shapes.is_matrix(scale_map):
        torch.testing.assert_close(rotation, expected[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale_map", MAPS)
def test_a_narrower_filter_leaves_the_picture_as_it_was(scale_map):
    sigma, angle = gaussians()
    scale, rotation = shapes.parameters(sigma, angle, scale_map)
    wide = (
        shapes.matrix_factors_reference(scale, rotation, scale_map, 5.0)
        if shapes.is_matrix(scale_map)
        else factors_reference(scale, rotation, scale_map, lowpass=5.0)
    )
    shapes.widen(scale, rotation, scale_map, 3.0, 0.3)
    narrow = (
        shapes.matrix_factors_reference(scale, rotation, scale_map, 2.0)
        if shapes.is_matrix(scale_map)
        else factors_reference(scale, rotation, scale_map, lowpass=2.0)
    )
    torch.testing.assert_close(narrow, wide, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale_map", MAPS)
def test_a_wider_filter_stops_at_the_smallest_deviation(scale_map):
    sigma, angle = gaussians()
    scale, rotation = shapes.parameters(sigma, angle, scale_map)
    shapes.widen(scale, rotation, scale_map, -10.0, 0.3)
    found = shapes.deviations(scale, rotation, scale_map)
    assert found.min() > 0.3 - 1e-6
