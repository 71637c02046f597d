"""What each attribute costs in a file: sums that add up, for every codec."""

from __future__ import annotations

from pathlib import Path

import pytest
from files import VALID

from igs.format import Codec, bits_by_attribute, open_file

FILES = sorted(VALID.glob("*.igs"))


def _codecs(path: Path) -> set[Codec]:
    with open_file(path, allow_partial=True) as file:
        file.load_index()
        return {Codec(int(c)) for c in file.entries["codec"][: file.level_range()[1]]}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_bits_sum_to_the_file(path):
    with open_file(path, allow_partial=True) as file:
        found = bits_by_attribute(file)
        present = path.stat().st_size
        assert list(found) == ["position", "scale", "rotation", "feature", "coder", "head", "sections"]
        assert sum(found.values()) == pytest.approx(8 * present)
        assert min(found["position"], found["feature"]) > 0
        chunks = file.level_range()[1]
        # A state of 5 bytes; the cells' trim of 4; what the last word rounds up; nothing but padding of raw codes.
        per_chunk = {Codec.RAW: (0, 7.01), Codec.ZSTD: (-0.01, 0.01), Codec.COLUMNS: (16, 60), Codec.CELLS: (40, 92)}
        codecs = _codecs(path)
        low, high = min(per_chunk[c][0] for c in codecs), max(per_chunk[c][1] for c in codecs)
        assert low * chunks - 1e-6 <= found["coder"] <= high * chunks + 1e-6


def test_every_codec_has_a_case():
    assert set.union(*map(_codecs, FILES)) == set(Codec)


def test_raw_codes_cost_their_widths():
    path = next(p for p in FILES if _codecs(p) == {Codec.RAW})
    with open_file(path) as file:
        found = bits_by_attribute(file)
        for name in ("position", "scale", "rotation", "feature"):
            assert found[name] == file.num_gaussians * sum(getattr(file.header, name).code_bits)
