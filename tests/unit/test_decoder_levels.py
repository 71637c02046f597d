"""The Image and files of several levels, whole and in part."""

from __future__ import annotations

import math

import numpy as np
import pytest
from image_cases import make_codes, make_header, reference_decode

import igs
from igs import format
from igs.decoder.rule import Rule
from igs.format import Blend, LevelMode
from igs.format.errors import InvalidFile, UsageError


def level_file(mode, blend=Blend.TOPK):
    fields = {"top_k": 0, "relative_reach2": math.inf} if blend == Blend.SUM else {}
    header = make_header(level_mode=mode, background=(0.5, 0.25, 0.125), blend=blend, **fields)
    levels = [[make_codes(header, n, seed)] for seed, n in enumerate((30, 60, 90))]
    return header, [level[0] for level in levels], format.write(header, levels, sections={"json": b"{}"})


def expected_level(header, levels, level):
    if header.level_mode == LevelMode.UNION:
        return reference_decode(header, np.concatenate(levels[: level + 1]))
    if header.level_mode == LevelMode.REPLACEMENT:
        return reference_decode(header, levels[level])
    rule = Rule.of(header)
    return reference_decode(header, levels[0]) + sum(
        reference_decode(header, codes, rule.without_background()) for codes in levels[1 : level + 1]
    )


@pytest.mark.parametrize("mode", list(LevelMode))
@pytest.mark.parametrize("blend", list(Blend))
def test_levels(mode, blend):
    header, levels, data = level_file(mode, blend)
    with igs.open(data) as image:
        assert [l.num_gaussians for l in image.levels] == [30, 60, 90]
        for level in (0, 1, 2, None):
            expected = expected_level(header, levels, 2 if level is None else level)
            found = image.decode(level=level, dtype="float32")
            assert np.abs(found - expected).max() <= 3 * 2.0**-17 * max(1, np.abs(expected).max())
            centres = np.stack(np.meshgrid(np.arange(30), np.arange(40)), axis=-1).reshape(-1, 2) + 0.5
            values = found[:40, :30].reshape(-1, 3)
            assert np.array_equal(image.sample(centres, level), values)
            assert np.array_equal(image.sample(centres[:50], level), values[:50])
            if level is None:
                assert np.array_equal(image.pixel(3, 2), found[2, 3])
        for bad in (-1, 3, "x"):
            with pytest.raises(UsageError, match="level"):
                image.decode(level=bad)
            with pytest.raises(UsageError, match="level"):
                image.sample([[1, 1]], level=bad)


@pytest.mark.parametrize("mode", list(LevelMode))
def test_partial_files(mode):
    header, levels, data = level_file(mode)
    with igs.open(data) as image:
        ends = [l.end for l in image.levels]
        assert not image.partial
    for level, end in enumerate(ends[:-1]):
        with igs.open(data[:end]) as image:
            assert image.partial
            assert len(image.levels) == level + 1
            expected = expected_level(header, levels, level)
            assert np.abs(image.decode(dtype="float32") - expected).max() <= 2 * 2.0**-17
        with pytest.raises(InvalidFile, match="E_TRUNCATED"):
            igs.open(data[: end + 1])
        with igs.open(data[: end + 1], allow_partial=True) as image:
            assert len(image.levels) == level + 1
