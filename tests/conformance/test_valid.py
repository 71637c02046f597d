"""Every file of valid/ opens, validates, is copied byte for byte, and has the values that its .json states."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from igs.format import Codec, Limits, describe, describe_text, join, open_file, read, split, validate_file, write

ROUNDING = 2e-6  # relative: binary32 in division and power, and the eight digits of the stated values
FOLDER = Path(__file__).resolve().parent / "valid"
# Not to be written again as they are: Zstandard's output may differ between its versions, others are not our writer's.
OTHER_WRITERS = {"zstd", "zstd_dictionary_0", "reach_area_within_tolerance"}
OTHER_WRITERS |= {f"lattice_{name}" for name in ("1000", "coarse", "fine", "flat", "neighbours")}
NAMES = sorted(p.stem for p in FOLDER.glob("*.json"))


def _load(name: str) -> bytes:
    packed = FOLDER / f"{name}.igs.xz"
    return lzma.decompress(packed.read_bytes()) if packed.exists() else (FOLDER / f"{name}.igs").read_bytes()


def _expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def _limits(name: str) -> Limits:
    return Limits(**_expected(name).get("limits", {}))


def test_no_case_is_missing() -> None:
    import valid_cases

    made = dict(valid_cases.cases())
    assert sorted(made) == NAMES
    for name in NAMES:
        if b"\x28\xb5\x2f\xfd" not in made[name]:  # Zstandard's output may differ between its versions
            assert made[name] == _load(name), name


@pytest.mark.parametrize("name", NAMES)
def test_validates_and_copies(name: str) -> None:
    data = _load(name)
    report = validate_file(data, _limits(name))
    partial = name.endswith(("_partial", "_without_tail"))
    assert report.valid, report.findings
    assert [f.code for f in report.findings] == (["W_PARTIAL"] if partial else [])
    assert report.exit_code == 0
    assert read(data, _limits(name)).to_bytes() == data
    with open_file(data, _limits(name)) as file:
        assert file.partial == partial
        json.dumps(describe(file, chunks=True), allow_nan=False)
        assert str(file.header.width) in describe_text(file)


@pytest.mark.parametrize("name", NAMES)
def test_writing_its_codes_again_gives_the_same_bytes(name: str) -> None:
    data = _load(name)
    with open_file(data, _limits(name)) as file:
        if file.partial or name in OTHER_WRITERS:
            return
        if len(file.parts) > 1:
            assert join(split(data), [part.groups for part in file.parts], dict(file.sections)) == data
            return
        levels = [[file.codes(c) for c in range(x.first_chunk, x.first_chunk + x.num_chunks)] for x in file.levels]
        codec = Codec(int(file.entries["codec"].max()))
        assert write(file.header, levels, codec=codec, sections=dict(file.sections)) == data


@pytest.mark.parametrize("name", NAMES)
def test_has_the_stated_gaussians(name: str) -> None:
    from expected import gaussians_crc

    with open_file(_load(name), _limits(name)) as file:
        assert gaussians_crc(file) == _expected(name)["gaussians_crc"]
        for number, (*mean, p, q, r, feature) in enumerate(_expected(name).get("gaussians", [])):
            found = file.gaussians(0)[number : number + 1]
            assert mean == found.means[0].tolist()
            assert [float.fromhex(v) for v in (p, q, r)] == found.factors[0].tolist()
            assert float.fromhex(feature) == found.features[0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_has_the_stated_values(name: str) -> None:
    decoder = pytest.importorskip("igs.decoder")
    from expected import picture_bounds, tolerance

    stated = _expected(name)
    points = np.array(stated["points"])
    with decoder.open(_load(name), limits=_limits(name)) as image:
        assert len(stated["levels"]) == len(image.levels)
        for level, values in enumerate(np.array(stated["levels"])):
            slack = tolerance(image.header, stated["max_feature"], image.num_gaussians, level)
            got = image.sample(points, level=level, raw=True)
            assert (np.abs(got - values) <= slack + 1e-8 * np.abs(values)).all()
            low, high = picture_bounds(values, slack, image.groups)
            assert _between(image.sample(points, level=level), low, high)
            many = image.sample(np.tile(points, (12, 1)), level=level, raw=True)  # another path than few points
            assert (np.abs(many - np.tile(values, (12, 1))) <= slack + 1e-8 * np.abs(many)).all()


@pytest.mark.parametrize("name", [n for n in NAMES if "regions" in _expected(n)])
def test_has_the_stated_regions(name: str) -> None:
    decoder = pytest.importorskip("igs.decoder")
    from expected import integers, picture_bounds, picture_values, tolerance

    stated = _expected(name)
    with decoder.open(_load(name), limits=_limits(name)) as image:
        for case in stated["regions"]:
            level, region = case["level"], case["region"]
            stored, picture = np.array(case["stored"]), np.array(case["picture"])
            slack = tolerance(image.header, stated["max_feature"], image.num_gaussians, level)
            got = image.region(*region, dtype="float32", level=level, raw=True)
            assert got.shape == stored.shape
            assert (np.abs(got - stored) <= slack + 1e-8 * np.abs(stored)).all()

            low, high = picture_bounds(stored, slack, image.groups)
            assert _between(picture, low, high)
            assert _between(image.region(*region, dtype="float32", level=level), low, high)
            assert np.allclose(picture_values(stored, image.groups), picture, rtol=ROUNDING, atol=1e-7)
            for bits in (8, 16):
                values = image.region(*region, dtype=f"uint{bits}", level=level).astype(int)
                least, most = (integers(_widened(v, side), bits) for v, side in ((low, -1), (high, 1)))
                assert ((least <= values) & (values <= most)).all()
            bytes_ = image.region(*region, dtype="uint8", level=level).astype(int)
            assert (np.abs(bytes_ - np.array(case["uint8"])) <= 1).all()


def test_the_stated_regions_reach_what_they_are_for() -> None:
    """Reduction and enlargement, all levels, colours under no alpha, values that are clamped."""
    cases = [(n, case) for n in NAMES for case in _expected(n).get("regions", [])]
    scales = {case["region"][4] for _, case in cases}
    assert min(scales) < 0.5 < 1 < max(scales)
    assert {case["level"] for _, case in cases} == {0, 1}
    clear = np.concatenate(
        [np.array(c["stored"]).reshape(-1, 4) for n, c in cases if n == "premultiplied_clear"], axis=0
    )
    assert ((clear[:, 3] < 2.0**-9) & (clear[:, 0] > 0)).any()
    assert (clear[:, 3] > 0.5).any()
    assert (np.abs(clear[:, 3] - 2.0**-9) > 2.0**-16).all()  # no value on the edge between the two branches
    assert any((np.array(c["picture"]) > 1).any() for _, c in cases)


def test_a_two_stage_file_is_read_in_parts() -> None:
    decoder = pytest.importorskip("igs.decoder")
    data = _load("two_stage")
    with open_file(data) as file:
        assert file.head.two_stage
        assert file.bytes_read == file.head.head_bytes
        assert file.num_chunks % 256 == 1
        assert file.levels[1].first_chunk % 256
    with decoder.open(data) as image:
        image.sample([[80.5, 52.5]])
        assert image.bytes_read < len(data) / 3


def _widened(values: np.ndarray, side: int) -> np.ndarray:
    return values + side * ROUNDING * (np.abs(values) + 1e-3)


def _between(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> bool:
    return bool(((values >= _widened(low, -1)) & (values <= _widened(high, 1))).all())
