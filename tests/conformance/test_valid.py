"""Every file of valid/ opens, validates, is copied byte for byte, and has the values that its .json states."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from igs.format import Codec, describe, describe_text, open_file, read, validate_file, write

FOLDER = Path(__file__).resolve().parent / "valid"
NAMES = sorted(p.stem for p in FOLDER.glob("*.json"))


def _load(name: str) -> bytes:
    packed = FOLDER / f"{name}.igs.xz"
    return lzma.decompress(packed.read_bytes()) if packed.exists() else (FOLDER / f"{name}.igs").read_bytes()


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
    report = validate_file(data)
    partial = name.endswith(("_partial", "_without_tail"))
    assert report.valid, report.findings
    assert [f.code for f in report.findings] == (["W_PARTIAL"] if partial else [])
    assert report.exit_code == 0
    assert read(data).to_bytes() == data
    with open_file(data) as file:
        assert file.partial == partial
        json.dumps(describe(file, chunks=True), allow_nan=False)
        assert str(file.header.width) in describe_text(file)


@pytest.mark.parametrize("name", NAMES)
def test_writing_its_codes_again_gives_the_same_bytes(name: str) -> None:
    data = _load(name)
    with open_file(data) as file:
        if file.partial or name == "zstd":  # Zstandard's output may differ between its versions
            return
        levels = [[file.codes(c) for c in range(x.first_chunk, x.first_chunk + x.num_chunks)] for x in file.levels]
        codec = Codec(int(file.entries["codec"].max()))
        assert write(file.header, levels, codec=codec, sections=dict(file.sections)) == data


@pytest.mark.parametrize("name", NAMES)
def test_has_the_stated_values(name: str) -> None:
    decoder = pytest.importorskip("igs.decoder")
    expected = json.loads((FOLDER / f"{name}.json").read_text())
    points = np.array(expected["points"])
    tolerance = 2.0**-17 * max(1.0, expected["max_feature"])
    with decoder.open(_load(name)) as image:
        assert len(expected["levels"]) == len(image.levels)
        for level, values in enumerate(expected["levels"]):
            got = image.sample(points, level=level, raw=True)
            # Up to 8 Gaussians overlap under `sum`; 1e-8 is the rounding of the stated values.
            slack = tolerance * (8 if name == "sum" else 1) + 1e-8 * np.abs(values)
            assert (np.abs(got - values) <= slack).all()
