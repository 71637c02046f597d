"""The curves of format/transfer.py (spec §8.3), by themselves and through to_stored and the decoder's to_picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igs.decoder.output import is_plain, to_picture
from igs.encoder.loading.source import to_stored
from igs.format import Alpha, Group, Transfer
from igs.format import transfer as tr

LIGHT = st.floats(0, tr.PQ_PEAK, allow_subnormal=False)


@pytest.mark.parametrize(
    ("code", "nits"),
    # ST 2084's own values, to the digits that tables of it print: 100, 203, 1000 and 10000 cd/m²
    [(0.0, 0.0), (0.508078, 100.0), (0.580689, 203.0), (0.751827, 1000.0), (1.0, 10000.0)],
)
def test_pq_has_the_luminances_of_the_standard(code: float, nits: float) -> None:
    assert float(tr.to_linear(code, Transfer.PQ)) * 203 == pytest.approx(nits, rel=2e-5, abs=1e-9)


def test_log_has_the_values_of_the_specification() -> None:
    values = tr.to_linear([0, 1 / 24, 8 / 24, 1, -1, 5, 7], Transfer.LOG)
    assert values[:3] == pytest.approx([0, 1 / 256, 255 / 256], rel=1e-12)
    assert values[3:5] == pytest.approx([65536 - 1 / 256, -65536 + 1 / 256], rel=1e-12)
    assert values[5] == values[6] == pytest.approx(2.0**112, rel=1e-12)
    assert np.isfinite(values.astype(np.float32)).all()


@given(LIGHT)
def test_pq_is_undone(v: float) -> None:
    assert float(tr.to_linear(tr.from_linear(v, Transfer.PQ), Transfer.PQ)) == pytest.approx(v, rel=1e-9, abs=1e-9)


@given(st.floats(-1e30, 1e30, allow_subnormal=False))
def test_log_is_undone(v: float) -> None:
    assert float(tr.to_linear(tr.from_linear(v, Transfer.LOG), Transfer.LOG)) == pytest.approx(v, rel=1e-12, abs=1e-15)


@given(st.floats(-4, 4))
def test_srgb_is_undone(v: float) -> None:
    assert float(tr.srgb_from_linear(tr.linear_from_srgb(v))) == pytest.approx(v, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("transfer", tr.CURVED)
def test_what_a_curve_cannot_hold_is_clipped(transfer: Transfer) -> None:
    low, high = tr.linear_range(transfer)
    beyond = [low - 1, -1e38, 1e38] if transfer == Transfer.PQ else [-3e38, 3e38]
    back = tr.to_linear(tr.from_linear(beyond, transfer), transfer)
    assert back.min() == pytest.approx(low)
    assert back.max() == pytest.approx(high)


@pytest.mark.parametrize("alpha", [Alpha.NONE, Alpha.STRAIGHT, Alpha.PREMULTIPLIED])
@pytest.mark.parametrize("transfer", tr.CURVED)
def test_a_stored_picture_comes_back(transfer: Transfer, alpha: Alpha) -> None:
    rng = np.random.default_rng(1)
    group = Group(channels=3, transfer=transfer, alpha=alpha, bit_depth=32, gamma=0.75)
    light = np.exp(rng.uniform(-3, 3, (9, 7, 3))).astype(np.float32)
    if alpha != Alpha.NONE:
        light[..., 2] = rng.integers(8, 256, (9, 7)) / 255
    stored = to_stored(light, (group,))
    assert not is_plain((group,))
    assert stored.max() < 1
    back = stored.copy()
    to_picture(back, (group,))
    assert np.allclose(back, light, rtol=4e-5)  # PQ magnifies the rounding of stored values to binary32: 1.2e-5
    if alpha != Alpha.NONE:
        assert np.array_equal(back[..., 2], light[..., 2])
