"""Every file of invalid/ is refused with the code in its name, by the validator and by whatever reads that far."""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path

import pytest

from igs.format import InvalidFile, LimitExceeded, Limits, UnsupportedFile, open_file, read, validate_file
from igs.format.error_codes import CODES

FOLDER = Path(__file__).resolve().parent / "invalid"
FILES = sorted(p for p in FOLDER.iterdir() if p.suffix in (".igs", ".xz"))


def _load(path: Path) -> tuple[bytes, str, Limits]:
    data = path.read_bytes()
    name = path.name.split(".")[0]
    found = re.fullmatch(r"(\d{3})_(E_[A-Z_]*[A-Z])(_[a-z0-9_]+)?", name)
    assert found is not None, name
    assert CODES[found[2]].number == int(found[1]), name
    limits = FOLDER / f"{name}.json"
    values = json.loads(limits.read_text()) if limits.exists() else {}
    return (lzma.decompress(data) if path.suffix == ".xz" else data), found[2], Limits(**values)


def _read_all(data: bytes, limits: Limits) -> None:
    with open_file(data, limits) as file:
        file.read_gaussians(range(file.num_chunks))
        dict(file.sections)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name.split(".")[0])
def test_is_refused_with_its_code(path: Path) -> None:
    data, code, limits = _load(path)
    report = validate_file(data, limits)
    assert not report.valid
    first = report.findings[0]
    assert (first.code, first.number) == (code, CODES[code].number)
    assert report.exit_code == (5 if code in ("E_VERSION", "E_UNKNOWN", "E_CRITICAL", "E_CODEC") else 3)
    assert first.expected
    assert first.found
    assert first.expected in first.message
    if first.offset is not None:
        assert 0 <= first.offset <= len(data)
    if code == "E_SECTION_CONTENT":  # the validator's business alone
        _read_all(data, limits)
        return
    with pytest.raises(InvalidFile) as caught:
        _read_all(data, limits)
    assert caught.value.code == code
    assert isinstance(caught.value, LimitExceeded) == code.startswith("E_LIMIT_")
    assert isinstance(caught.value, UnsupportedFile) == (caught.value.exit_code == 5)


def test_every_code_has_a_case() -> None:
    covered = {_load(p)[1] for p in FILES}
    assert covered == {code for code in CODES if code.startswith("E_")}


def test_every_limit_can_be_lifted() -> None:
    """Each bomb opens where its limit is off: nothing but the limit stopped it."""
    for path in FILES:
        data, code, _ = _load(path)
        name = code.removeprefix("E_LIMIT_").lower()
        if code.startswith("E_LIMIT_") and name in ("pixels", "side", "reach_ratio", "channels"):
            open_file(data, Limits(**{name: float("inf")})).close()


def test_the_generator_makes_these_files(tmp_path: Path) -> None:
    """A change of the format shows here; Zstandard's output may differ between its versions."""
    import invalid_cases

    made = {name: data for name, data, _ in invalid_cases.cases()}
    assert sorted(made) == [p.name.split(".")[0] for p in FILES]
    for path in FILES:
        data, _, _ = _load(path)
        name = path.name.split(".")[0]
        if b"\x28\xb5\x2f\xfd" not in data:
            assert made[name] == data, name


def test_a_damaged_payload_is_not_copied() -> None:
    data, _, _ = _load(FOLDER / "301_E_CHUNK_CRC.igs")
    with pytest.raises(InvalidFile, match="E_CHUNK_CRC"):
        read(data)
