"""The `cells` codec and the lattice quantisers against a decoder written from the specification, on anything."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import zlib

import numpy as np
import pytest
import reference_cells as reference
from files import payload_ranges
from hypothesis import assume, example, given
from hypothesis import strategies as st

from igs.format import (
    Colour,
    Group,
    Header,
    InvalidFile,
    Limits,
    Quantizer,
    UsageError,
    arithmetic,
    columns,
    dequantize,
    describe,
    describe_text,
    open_file,
    quantize,
    reach_areas,
    reach_boxes,
    read,
    validate_file,
    write,
)
from igs.format import lattice as la
from igs.format.cells import Coded, clip_box, decode, decode_gaussians, encode, tables
from igs.format.cells_model import CODE_MAX, GUESSES, MINOR_MAX, RATIO_MAX, parameters
from igs.format.rans import RECIPROCALS, SPLIT
from igs.format.reader import MIN_THREADED

UNBOUNDED = Limits(reach_ratio=math.inf, gaussians_per_byte=math.inf)
WIDTH, HEIGHT = 200, 150
BYTE = st.integers(0, 255)


@st.composite
def models(draw: st.DrawFn) -> la.ValueModel:
    return la.ValueModel(draw(st.integers(0, 2)), draw(st.integers(0, 63)), draw(st.integers(-128, 127)), draw(BYTE))


@st.composite
def lattices(draw: st.DrawFn, features: int) -> la.Lattice:
    return la.Lattice(
        *(draw(BYTE) for _ in range(4)),
        feature=tuple(draw(BYTE) for _ in range(features)),
        ycbcr=draw(st.booleans()),
        minor_model=draw(models()),
        ratio_spread=draw(BYTE),
        feature_models=tuple(draw(models()) for _ in range(features)),
        angles=tuple(draw(st.lists(st.integers(0, 15), min_size=16, max_size=16))),
    )


def usual(features: int = 3, **changes: object) -> la.Lattice:
    """A record much as a fit leaves it."""
    record = la.Lattice(
        16, 24, 16, 16, (32,) * features, features >= 3, la.ValueModel(0, 30, 4, 190), 180,
        (la.ValueModel(2, 40, 8, 160),) * features,
    )  # fmt: skip
    return dataclasses.replace(record, **changes)


def codes_within(lattice: la.Lattice, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A codes table of n Gaussians that the record's models have room for, and their means [n, 2] in pixels."""
    rng = np.random.default_rng(seed)
    p = parameters(lattice)
    codes = np.zeros((n, 5 + len(lattice.feature)), np.int64)
    codes[:, 2] = np.minimum(rng.geometric(0.02, n), len(p.minors)) - 1
    codes[:, 3] = np.minimum(rng.integers(0, 30, n), p.minors[codes[:, 2], 4])
    sigma1, sigma2, _, _, gain, feature_gain = la.sizes(lattice, codes[:, 2], codes[:, 3])
    codes[:, 4] = rng.integers(0, la.angle_count(lattice, sigma1, sigma2, gain))
    part = la.shapes(lattice, codes.astype(np.uint32))
    p_, q, r, *_ = la.factor(part.sigma1, part.sigma2, part.turn)
    position = rng.uniform([-WIDTH / 2, -HEIGHT / 2], [1.5 * WIDTH, 1.5 * HEIGHT], (n, 2))
    codes[:, 1] = np.clip(position[:, 1] / (part.step / r), -(2**31), 2**31 - 1)
    codes[:, 0] = np.clip((position[:, 0] + q / p_ * position[:, 1]) / (part.step / p_), -(2**31), 2**31 - 1)
    for f, model in enumerate(lattice.feature_models):
        unit = la.step_value(lattice.feature[f]) * feature_gain / model.width
        reach = np.minimum(np.ceil(12.0 / unit), 16384)
        offsets = np.clip(np.round(rng.normal(0, 1.5, n) / unit), -reach, reach)
        codes[:, 5 + f] = np.clip(np.floor(model.mean / (unit * model.width)) + offsets, -(2**31), 2**31 - 1)
    table = codes.astype(np.int32).view(np.uint32)
    return table, la.mean_positions(table, part.step, p_, q, r)


def codes_that_fit(lattice: la.Lattice, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Those of ``codes_within`` that a coarse lattice leaves in reach, and a fine one within the range of codes."""
    codes, positions = codes_within(lattice, n, seed)
    near = (np.abs(positions - [WIDTH / 2, HEIGHT / 2]) < [1.4 * WIDTH, 1.4 * HEIGHT]).all(axis=1)
    near &= (np.abs(codes.view(np.int32).astype(np.int64)) <= CODE_MAX).all(axis=1)
    assume(near.any())
    return codes[near], positions[near]


@given(lattices(2))
def test_tables_of_a_record_are_those_of_exact_arithmetic(lattice: la.Lattice) -> None:
    """The kernel that fills them, bit for bit, by what rounds the same everywhere."""
    p, minor, model = parameters(lattice), la.step_value(lattice.minor), lattice.minor_model
    top = float(arithmetic.exp2(np.array([min((model.mean + 12 * model.width) / 2, 7.0)]))[0])
    assert len(p.minors) == min(max(math.ceil((top - 0.5) / minor), 0) + 1, MINOR_MAX) + 1
    k = np.arange(len(p.minors))
    _, sigma2, _, l2, *_ = la.sizes(lattice, k, 0 * k)
    ratio = la.step_value(lattice.ratio) / np.minimum(0.5 + k * minor, 128.0)
    unit = ratio / (la.spread_value(lattice.ratio_spread) * arithmetic.exp2(-0.375 * l2))
    largest = np.minimum(np.ceil(12.0 / unit), RATIO_MAX)
    for column, expected in zip(p.minors.T, (l2, sigma2, ratio, unit, largest), strict=True):
        assert np.array_equal(column, expected)
    edges = 2.0 * arithmetic.log2(0.5 + (np.arange(1, len(k) + 1) - 0.5) * minor)
    assert np.array_equal(p.edges[:-GUESSES], np.concatenate([[-np.inf], edges]))
    guesses = (2.0 ** ((np.arange(GUESSES) / 16 - 2.0) / 2) - 0.5) / minor + 0.5
    assert np.allclose(p.edges[-GUESSES:], guesses, rtol=1e-12)


def both(payload: bytes, count: int, lattice: la.Lattice, box: np.ndarray) -> np.ndarray | None:
    """The rows that both decoders make of a payload, or None where both refuse it."""
    record = reference.Record(lattice.to_bytes(), len(lattice.feature))
    try:
        expected = np.array(reference.decode(payload, count, record, box.tolist(), WIDTH, HEIGHT))
    except reference.Stream:
        with pytest.raises(InvalidFile, match="E_STREAM"):
            decode(payload, count, lattice, clip_box(box, WIDTH, HEIGHT))
        return None
    found = decode(payload, count, lattice, clip_box(box, WIDTH, HEIGHT))
    assert np.array_equal(found.view(np.int32), expected)
    return found


def box_around(positions: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low, high = positions.min(axis=0), positions.max(axis=0)
    box = np.concatenate([np.floor(low - rng.integers(1, 99, 2)), np.ceil(high + rng.integers(1, 99, 2))])
    return np.where(rng.random(4) < 0.2, [-np.inf, -np.inf, np.inf, np.inf], box)


def test_the_curves_are_those_of_the_specification() -> None:
    assert np.array_equal(tables(), reference.TABLES)


@given(st.data(), st.integers(1, 6), st.integers(1, 200), st.integers(0, 999))
def test_any_set_of_any_record_comes_back(draw: st.DataObject, features: int, n: int, seed: int) -> None:
    lattice = draw.draw(st.one_of(lattices(features), st.just(usual(features))))
    codes, positions = codes_that_fit(lattice, n, seed)
    n = len(codes)
    box = box_around(positions, seed)
    encoded = encode(codes, lattice, clip_box(box, WIDTH, HEIGHT), positions)
    found = both(encoded.payload, n, lattice, box)
    assert found is not None
    assert np.array_equal(found, codes[encoded.order])
    again = encode(found, lattice, clip_box(box, WIDTH, HEIGHT), positions[encoded.order])
    assert again.payload == encoded.payload
    bits = 8 * len(encoded.payload) - 32 - 40
    assert encoded.bits.sum() + encoded.decisions == pytest.approx(bits, abs=24)  # what the final state holds


@given(st.data(), st.integers(1, 40), st.integers(0, 99))
def test_damaged_payloads_are_judged_alike(draw: st.DataObject, n: int, seed: int) -> None:
    lattice = draw.draw(st.one_of(lattices(2), st.just(usual(2))))
    codes, positions = codes_that_fit(lattice, n, seed)
    n = len(codes)
    box = box_around(positions, seed)
    payload = bytearray(encode(codes, lattice, clip_box(box, WIDTH, HEIGHT), positions).payload)
    for _ in range(draw.draw(st.integers(1, 3))):
        payload[draw.draw(st.integers(0, len(payload) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    both(bytes(payload), n, lattice, box)
    both(bytes(payload), n + draw.draw(st.integers(1, 99)), lattice, box)


@given(
    st.data(), st.binary(max_size=300), st.integers(1, 65535), st.lists(st.integers(-600, 600), min_size=4, max_size=4)
)
def test_random_payloads_are_judged_alike(draw: st.DataObject, payload: bytes, count: int, box: list[int]) -> None:
    lattice = draw.draw(st.one_of(lattices(1), st.just(usual(1))))
    sides = [*map(min, box[:2], box[2:]), *map(max, box[:2], box[2:])]
    both(payload, count, lattice, np.array(sides, np.float64))


def test_every_cut_and_every_longer_payload_is_refused() -> None:
    lattice = usual()
    codes, positions = codes_within(lattice, 30, 0)
    box = clip_box(box_around(positions, 1), WIDTH, HEIGHT)
    payload = encode(codes, lattice, box, positions).payload
    for damaged in [payload[:n] for n in range(len(payload))] + [payload + b"\0", payload + b"\0\0"]:
        with pytest.raises(InvalidFile, match="E_STREAM"):
            decode(damaged, 30, lattice, box)
    for count in (29, 31):
        with pytest.raises(InvalidFile, match="E_STREAM"):
            decode(payload, count, lattice, box)


@pytest.mark.parametrize("spread", [0, 255])
@pytest.mark.parametrize("step", [0, 255])
@pytest.mark.parametrize("seed", range(4))
def test_extreme_records_on_random_bytes(step: int, spread: int, seed: int) -> None:
    """Lattices of 2^-32 deviations, ranges of 32769 codes, cells without any lattice point: refused or read, soon."""
    rng = np.random.default_rng(seed)
    model = la.ValueModel(int(rng.integers(0, 3)), 63, int(rng.choice([-128, 0, 127])), spread)
    lattice = la.Lattice(step, step, step, step, (step,) * 4, True, model, spread, (model,) * 4)
    payload = bytes(rng.integers(0, 256, 2 * int(rng.integers(5, 200)) + 1, np.uint8))
    both(payload, 65535, lattice, np.array([-np.inf, -np.inf, np.inf, np.inf]))


def lattice_header(lattice: la.Lattice, **changes: object) -> Header:
    channels = len(lattice.feature)
    fields = {
        "width": WIDTH,
        "height": HEIGHT,
        "channels": channels,
        "groups": (Group(channels=channels, colour=Colour.RGB if channels == 3 else Colour.UNSPECIFIED),),
        "background": (0.5,) * channels,
        "position": Quantizer.lattice(2),
        "scale": Quantizer.lattice(2),
        "rotation": Quantizer.lattice(1),
        "feature": Quantizer.lattice(channels),
        "lattice": lattice,
    }
    return Header(**(fields | changes))


@given(st.integers(1, 4), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.booleans(), st.integers(0, 99))
@example(1, [1, 1, 27], False, 70)  # one of these Gaussians lies beyond the reach of any file
def test_files_come_back_as_sets_and_then_byte_for_byte(
    features: int, sizes: list[int], apart: bool, seed: int
) -> None:
    header = lattice_header(usual(features))
    chunks = [codes_that_fit(usual(features), n, seed + i)[0] for i, n in enumerate(sizes)]
    levels = [chunks] if apart else [np.concatenate(chunks)]
    written = write(header, levels)
    assert validate_file(written, UNBOUNDED).valid
    with open_file(written, UNBOUNDED) as file:
        assert dataclasses.replace(file.header, box_shift=None) == header
        stored = [file.codes(i) for i in range(file.num_chunks)]
        parts = file.read_gaussians(range(file.num_chunks), threads=3)
        assert [p.first_index for p in parts] == np.cumsum([0, *map(len, parts)])[:-1].tolist()
        single = file.gaussians(file.num_chunks - 1)
        assert np.array_equal(single.means, parts[-1].means)
    for given_, got in zip(chunks if apart else levels, stored if apart else [np.concatenate(stored)], strict=True):
        assert sorted(map(tuple, got.tolist())) == sorted(map(tuple, given_.tolist()))
    assert write(header, [stored]) == written == read(written, UNBOUNDED).to_bytes()
    with open_file(write(header, [stored]), UNBOUNDED) as file:
        assert all(np.array_equal(file.codes(i), table) for i, table in enumerate(stored))


@given(st.data(), st.integers(1, 4), st.integers(0, 999))
def test_dequantisation_is_that_of_the_specification(draw: st.DataObject, features: int, seed: int) -> None:
    lattice = draw.draw(st.one_of(lattices(features), st.just(usual(features))))
    codes, _ = codes_within(lattice, 20, seed)
    gaussians = dequantize(lattice_header(lattice), codes)
    record = reference.Record(lattice.to_bytes(), features)
    for row, mean, feature in zip(codes.view(np.int32).tolist(), gaussians.means, gaussians.features, strict=True):
        expected, values = reference.dequantize(record, row, [0] if features == 3 else [])
        assert mean.tolist() == expected
        assert feature.tolist() == np.clip(values, -(2.0**32), 2.0**32).astype(np.float32).tolist()


@given(
    st.data(),
    st.integers(1, 5),
    st.lists(st.integers(1, 25), min_size=1, max_size=20),
    st.integers(1, 4),
    st.integers(),
)
def test_gaussians_side_by_side_are_those_of_the_codes(
    draw: st.DataObject, features: int, most: list[int], threads: int, seed: int
) -> None:
    lattice = draw.draw(st.one_of(lattices(features), st.just(usual(features))))
    header, payloads, boxes, tables = lattice_header(lattice), [], [], []
    for i, n in enumerate(most):
        codes, positions = codes_that_fit(lattice, n, abs(seed) + i)
        boxes.append(clip_box(box_around(positions, i), WIDTH, HEIGHT))
        payloads.append(encode(codes, lattice, boxes[-1], positions).payload)
        tables.append(decode(payloads[-1], len(codes), lattice, boxes[-1]))
    sizes = [len(table) for table in tables]
    everywhere, any_area = np.tile([-np.inf, -np.inf, np.inf, np.inf], (len(sizes), 1)), np.full(len(sizes), np.inf)
    coded = Coded(payloads, np.array(sizes), np.array(boxes), everywhere, any_area)
    found, expected = decode_gaussians(coded, header, threads), dequantize(header, np.concatenate(tables))
    assert found is not None
    for name in ("means", "factors", "features", "covariances", "scales"):
        assert getattr(found, name).dtype == getattr(expected, name).dtype
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()
    wrong = draw.draw(st.integers(0, len(sizes) - 1))
    box, area = reach_boxes(header, expected), reach_areas(header, expected)
    part = slice(sum(sizes[:wrong]), sum(sizes[: wrong + 1]))
    tight = np.concatenate([box[part, :2].min(axis=0), box[part, 2:].max(axis=0)])
    narrow = tight + np.eye(4)[draw.draw(st.integers(0, 3))] * [1, 1, -1, -1] * 2.0**-20
    payload, least = payloads[wrong], float(area[part].sum())
    longer, shorter, empty = payload + b"\0\0", payload[: max(len(payload) - 2, 0)], b""
    without_state = payload[:4] + bytes(5) + payload[9:]
    for field, value, good in (
        ("boxes", tight, True),
        ("boxes", narrow, bool((narrow == tight).all())),
        ("areas", least * (1 + 2.0**-21), True),
        ("areas", least * (1 - 2.0**-19), False),
        *(("payloads", bad, False) for bad in (longer, shorter, empty, payload + b"\0", without_state)),
    ):
        changed = copy.copy(getattr(coded, field))
        changed[wrong] = value
        assert (decode_gaussians(coded._replace(**{field: changed}), header, threads) is not None) == good


def test_a_division_by_a_table_is_exact() -> None:
    for n in range(1, SPLIT + 1):
        share = np.arange(n + 1) << 16
        assert np.array_equal((share * RECIPROCALS[n]) >> 36, share // n)


@given(st.data(), st.integers(1, 6))
def test_records_come_back(draw: st.DataObject, features: int) -> None:
    lattice = draw.draw(lattices(features))
    data = lattice.to_bytes()
    assert len(data) == la.Lattice.size(features) == 17 + 4 * features
    assert la.Lattice.from_bytes(data, features) == lattice
    assert not list(lattice.problems())


@given(st.integers(0, 999))
def test_quantised_to_the_nearest_point(seed: int) -> None:
    """Half a step at most in every attribute, measured as the quantiser measures it."""
    rng = np.random.default_rng(seed)
    lattice = usual(2)
    n = 50
    position = rng.uniform(0, 200, (n, 2))
    sigma = np.exp2(rng.uniform(-1.9, 6, (n, 2)))
    turn, feature = rng.uniform(-1, 2, n), rng.normal(0, 1, (n, 2))
    codes = quantize(lattice_header(lattice), position, np.log2(sigma), turn[:, None], feature)
    part = la.shapes(lattice, codes)
    p, q, r, *_ = la.factor(part.sigma1, part.sigma2, part.turn)
    dx, dy = (la.mean_positions(codes, part.step, p, q, r) - position).T
    slack = 1 + 1e-9
    assert (np.abs(r * dy) <= part.step / 2 * slack).all()
    assert (np.abs(p * dx + q * dy) <= part.step / 2 * slack).all()
    root = np.sqrt(sigma.min(axis=1))
    assert (np.abs(np.sqrt(part.sigma2) - root) <= la.step_value(lattice.minor) / 2 * slack).all()
    elongation = np.maximum(np.log2(sigma.max(axis=1) / part.sigma2), 0.0)
    step = la.step_value(lattice.ratio) / np.sqrt(part.sigma2)
    assert (np.abs(part.log1 - part.log2 - elongation) <= step / 2 * slack).all()
    sigma1, sigma2, _, _, gain, _ = la.sizes(lattice, codes[:, 2], codes[:, 3])
    count = la.angle_count(lattice, sigma1, sigma2, gain)
    turned = np.where(sigma[:, 0] < sigma[:, 1], turn + 0.5, turn)
    off = np.abs(part.turn - turned + 0.5) % 1.0 - 0.5
    assert (np.abs(off) <= 0.5 / count * slack).all()
    steps = np.array([la.step_value(c) for c in lattice.feature]) * part.gain[:, None]
    assert (np.abs(la.feature_values(lattice, codes, part.gain, []) - feature) <= steps / 2 * slack).all()


def test_what_the_models_have_no_room_for_is_the_callers_mistake() -> None:
    lattice = usual(1)
    codes, positions = codes_within(lattice, 3, 0)
    box = clip_box(box_around(positions, 0), WIDTH, HEIGHT)
    top = len(parameters(lattice).minors)
    for column, value in ((2, top), (2, 2**32 - 1), (3, RATIO_MAX + 1), (4, 2**20), (5, 2**20), (0, 2**31)):
        bad = codes.copy()
        bad[1, column] = value
        with pytest.raises(UsageError, match="codes"):
            encode(bad, lattice, box, positions)
    far = codes.copy()
    far[1, :2] = 2**29
    with pytest.raises(UsageError, match="outside"):
        encode(far, lattice, box, positions)
    with pytest.raises(UsageError, match="finite"):
        quantize(lattice_header(lattice), [[math.nan, 0]], [[0, 0]], [[0]], [[0]])
    for changes in ({"ratio_spread": 256}, {"feature": (1, 2)}, {"angles": (16,) * 16}, {"angles": ()}):
        with pytest.raises(UsageError, match="header"):
            write(lattice_header(dataclasses.replace(lattice, **changes), channels=1), [codes])


@pytest.mark.parametrize("n", [2500, 5000])
def test_the_head_of_a_small_coded_file_is_small(n: int) -> None:
    codes, _ = codes_within(usual(), n, 0)
    data = write(lattice_header(usual()), [codes])
    with open_file(data, UNBOUNDED) as file:
        assert 10_000 < len(data) < 60_000
        assert file.head.head_bytes <= 0.02 * len(data)


def test_describe_tells_the_record() -> None:
    codes, _ = codes_within(usual(), 40, 0)
    with open_file(write(lattice_header(usual()), [codes]), UNBOUNDED) as file:
        found, text = describe(file), describe_text(file)
        payload = len(file.payload(0))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["lattice"]["minor_model"] == {"family": "logistic", "pull": 30, "centre": 4, "spread": 190}
    assert found["lattice"]["feature"] == [32, 32, 32]
    assert found["bits_per_gaussian"] == round(8 * payload / 40, 2)
    assert (
        "lattice: steps position 0.25, minor 0.125, ratio 0.25, rotation 0.25, feature 0.0625 0.0625 0.0625, luma"
        in text
    )


@given(st.lists(st.integers(1, 32), min_size=1, max_size=5), st.integers(1, 60), st.integers(0, 999), st.data())
def test_columns_as_the_specification_reads_them(widths: list[int], n: int, seed: int, draw: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.geometric(0.3, n) % 2**b if b < 20 else rng.integers(0, 2**b, n) for b in widths], axis=1)
    payload = columns.encode(codes.astype(np.uint32), widths)
    assert reference.decode_columns(payload, n, widths) == codes.tolist()
    assert np.array_equal(columns.decode(payload, n, widths), codes)
    damaged = bytearray(payload)
    damaged[draw.draw(st.integers(0, len(payload) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    for bad in (bytes(damaged), payload[:-2], payload + b"\0\0", payload[:-1], payload[:4]):
        try:
            expected = reference.decode_columns(bad, n, widths)
        except reference.Stream:
            with pytest.raises(InvalidFile, match="E_STREAM"):
                columns.decode(bad, n, widths)
        else:
            assert columns.decode(bad, n, widths).tolist() == expected


def test_threads_decode_the_same_and_raise_the_same() -> None:
    codes, positions = codes_within(usual(), 3100, 0)
    codes = codes[(np.abs(positions - [WIDTH / 2, HEIGHT / 2]) < [1.4 * WIDTH, 1.4 * HEIGHT]).all(axis=1)]
    header = lattice_header(usual())
    chunks = [codes[i : i + 500] for i in range(0, 3000, 500)]
    assert sum(map(len, chunks)) >= MIN_THREADED
    data = bytearray(write(header, [chunks]))
    with open_file(bytes(data), UNBOUNDED) as file:
        for alone, together in zip(file.read_gaussians(range(6), 1), file.read_gaussians(range(6), 4), strict=True):
            assert np.array_equal(alone.means, together.means)
            assert np.array_equal(alone.features, together.features)
        (offset, size), entry = payload_ranges(data, UNBOUNDED)[3], file.head.index_offset + 18 * 3
    data[offset + size - 1] ^= 1
    data[entry + 16 : entry + 18] = (zlib.crc32(data[offset : offset + size]) & 0xFFFF).to_bytes(2, "little")
    head = int.from_bytes(data[12:16], "little")
    data[head - 4 : head] = zlib.crc32(data[: head - 4]).to_bytes(4, "little")
    with open_file(bytes(data), UNBOUNDED) as file, pytest.raises(InvalidFile, match="chunk 3"):
        file.read_gaussians(range(6), 4)
