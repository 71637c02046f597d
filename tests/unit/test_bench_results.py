"""How the benchmarks keep what they measured, and what the documents are made of."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the benchmarks encode")
pytest.importorskip("scipy")
REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "bench"))

import common
import encodes
import make_docs
import scales

import igs

PIXELS = np.arange(16 * 12 * 3, dtype=np.uint8).reshape(12, 16, 3)


def test_an_encode_is_made_once_per_state_of_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodes, "CACHE", tmp_path)
    settings = {"num_gaussians": 4, "steps": 2}
    data, report = encodes.encode_once(PIXELS, **settings)
    assert report["bytes"] == len(data)
    assert igs.open(data).decode().shape == PIXELS.shape
    assert encodes.encode_once(PIXELS, threads=1, **settings) == (data, report)
    assert len(list(tmp_path.iterdir())) == 2
    encodes.encode_once(PIXELS[::-1], **settings)
    monkeypatch.setattr(encodes, "sources_version", lambda: "another")
    encodes.encode_once(PIXELS, **settings)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".igs"] * 3 + [".json"] * 3


def test_a_pictures_rows_take_the_place_of_its_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    asked = {"what": [], "set": "kodak", "subset": None, "only": "a,b", "side": 9, "threads": 1}
    scales.keep("down a", asked, [1])
    scales.keep("down a", asked | {"only": "a", "threads": 2}, [2])
    scales.keep("down a", asked | {"side": 8}, [3])
    for only in ("a", "b"):
        scales.keep("up 2", asked | {"only": only}, [only])  # of several pictures: which ones counts
    kept = json.loads((tmp_path / "scales.json").read_text())
    assert [k["rows"] for k in kept] == [[2], [3], ["a"], ["b"]]
    assert all(k["igs"].startswith("igs ") and k["date"] for k in kept)


def test_the_committed_tables_are_made_of_the_committed_results() -> None:
    results = json.loads((REPO / "bench" / "results" / "cpu.json").read_text())
    readme, speed, page = (path.read_text() for path in (make_docs.README, make_docs.SPEED, make_docs.PAGE))
    assert make_docs.fill(readme, "speed", make_docs.first_figures(results)) == readme
    assert make_docs.fill(speed, "speed", make_docs.speed(results)) == speed
    for name, made in (("efforts", make_docs.efforts), ("convergence", make_docs.convergence)):
        (rows,) = [section["rows"] for key, section in results.items() if key.startswith(name)]
        assert make_docs.fill(page, name, made(rows)) == page


def test_memory_and_time_of_a_process() -> None:
    told: list[str] = []
    peak, seconds = common.peak_and_seconds("a = bytearray(50_000_000); print('one'); print('two')", told)
    assert 48 < peak < 200
    assert seconds > 0
    assert told == ["one", "two"]
