"""The rate-distortion benchmark: its sets, cache and results with a codec that costs nothing, and its networks."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from PIL import Image
from rd import measure, metrics, results, sets, summary
from rd.cache import Key, Store
from rd.codecs import CLASSICAL, Encoded
from rd.measure import Bench
from rd_cases import pictures

# -- the cache, and going on where a run stopped


@dataclass(frozen=True)
class Coarse:
    """A codec that keeps the top bits of every value, a byte each; counts its work in `log`."""

    log: Path
    name: str = "coarse"
    label: str = "Coarse"
    family: str = "coarse"
    pictures: str = "all"
    keep: bool = True
    stops: bool = False
    version: str = "1"
    broken: tuple[int, ...] = ()
    bits: tuple[int, ...] = field(default=(1, 2, 4))

    def missing(self) -> str | None:
        return None

    def ladders(self, profile: sets.Profile) -> list[list[dict]]:
        return [[{"bits": b} for b in self.bits]]

    def encode(self, pixels: np.ndarray, settings: dict) -> Encoded:
        if settings["bits"] in self.broken:
            raise RuntimeError("out of order")
        with self.log.open("a") as file:
            file.write("x")
        bits = settings["bits"]
        step = 1 << (8 - bits)
        head = np.array([*pixels.shape[:2], step], "<u2").tobytes()
        return Encoded(head + bytes(bits * 100) + (pixels // step * step).tobytes(), {"num_gaussians": 7})

    def decode(self, data: bytes) -> np.ndarray:
        height, width, step = np.frombuffer(data[:6], "<u2")
        body = np.frombuffer(data[-int(height) * int(width) * 3 :], np.uint8).reshape(height, width, 3)
        return np.minimum(body.astype(int) + step // 2, 255).astype(np.uint8)

    @property
    def encoded(self) -> int:
        return len(self.log.read_text()) if self.log.exists() else 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two categories of one picture each."""
    a, b = pictures((48, 40))
    for name, pixels in (("flat/one", a), ("noisy/two", b)):
        path = tmp_path / "set" / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "set"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "cache", quick=True)


def test_sets_take_subfolders_for_categories(folder: Path, tmp_path: Path) -> None:
    found = sets.find(folder)
    assert [(p.name, p.category, p.width, p.height) for p in found.pictures] == [
        ("set/flat/one", "flat", 40, 48),
        ("set/noisy/two", "noisy", 40, 48),
    ]
    assert found.profile == sets.SMALL
    assert sets.find(folder, rates=(0.1, 0.4)).profile.limit == 1.0
    assert [p.name for p in sets.find(folder, subset=1).pictures] == ["set/flat/one"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found none"):
        sets.find(tmp_path / "empty")


def test_a_second_run_measures_nothing(folder: Path, bench: Bench, tmp_path: Path) -> None:
    codec = Coarse(tmp_path / "log")
    jobs = measure.jobs([sets.find(folder)], [codec])
    first = list(measure.run_all(bench, jobs))
    again = list(measure.run_all(bench, jobs))
    assert codec.encoded == 6
    assert [o.measured for o in first] == [3, 3]
    assert [o.measured for o in again] == [0, 0]
    for a, b in zip(first, again, strict=True):
        assert [p["psnr"] for p in a.points] == [p["psnr"] for p in b.points]
        assert a.points[0]["bytes"] == 6 + 100 + 48 * 40 * 3
        assert a.points[0]["psnr"] < a.points[-1]["psnr"]


def test_a_run_goes_on_behind_what_failed(folder: Path, bench: Bench, tmp_path: Path) -> None:
    picture_set = sets.find(folder, subset=1)
    (job,) = measure.jobs([picture_set], [Coarse(tmp_path / "log", broken=(2,))])
    outcome = bench.run(job)
    assert len(outcome.points) == 2
    assert not outcome.complete
    assert "out of order" in outcome.failures[0]
    repaired = Coarse(tmp_path / "log")
    (job,) = measure.jobs([picture_set], [repaired])
    outcome = bench.run(job)
    assert (outcome.measured, len(outcome.points), outcome.complete) == (1, 3, True)
    assert repaired.encoded == 3


def test_another_version_is_measured_again_unless_stale_points_are_accepted(
    folder: Path, bench: Bench, tmp_path: Path
) -> None:
    picture_set = sets.find(folder, subset=1)
    bench.run(measure.jobs([picture_set], [Coarse(tmp_path / "log")])[0])
    newer = Coarse(tmp_path / "log", version="2")
    (job,) = measure.jobs([picture_set], [newer])
    accepted = Bench(bench.cache, accept_stale=True, quick=True).run(job)
    assert accepted.measured == 0
    assert all(p["stale"] and p["version"] == "1" for p in accepted.points)
    assert bench.run(job).measured == 3
    assert newer.encoded == 6
    assert not any("stale" in p for p in Bench(bench.cache, accept_stale=True, quick=True).run(job).points)


def test_a_further_metric_decodes_the_kept_bytes_only(
    folder: Path, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Coarse(tmp_path / "log")
    (job,) = measure.jobs([sets.find(folder, subset=1)], [codec])
    before = bench.run(job)
    monkeypatch.setattr(metrics, "wanted", lambda weights, quick: ("psnr", "ms_ssim", "flip"))
    monkeypatch.setattr(metrics, "flip", lambda a, b: 0.25)
    after = bench.run(job)
    assert codec.encoded == 3
    assert after.measured == 3
    assert all(p["flip"] == 0.25 for p in after.points)
    assert [p["encode_s"] for p in after.points] == [p["encode_s"] for p in before.points]


def test_peeking_measures_nothing(folder: Path, bench: Bench, tmp_path: Path) -> None:
    codec = Coarse(tmp_path / "log")
    (job,) = measure.jobs([sets.find(folder, subset=1)], [codec])
    outcome = Bench(bench.cache, peek=True).run(job)
    assert (outcome.points, outcome.complete, codec.encoded) == ([], False, 0)


def test_a_damaged_cache_file_is_no_point(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = Key("c", "1", "ab" * 32, {"q": 1})
    store.save(key, {"bpp": 1.0}, b"data")
    record = store.find(key)
    assert record is not None
    assert (record.values["bpp"], record.data, record.stale) == (1.0, b"data", False)
    (tmp_path / f"{key.file}.json").write_text('{"bpp"')
    assert store.find(key) is None
    assert store.find(Key("c", "1", "ab" * 32, {"q": 2})) is None


def test_a_ladder_stops_beyond_the_limit(folder: Path, bench: Bench) -> None:
    jpeg = next(c for c in CLASSICAL if c.name == "jpeg")
    (job,) = measure.jobs([sets.find(folder, subset=1)], [jpeg])
    # A picture this small costs more than 1 bpp at any quality: one point of either sampling.
    assert len(bench.run(job).points) == 2


def test_results_keep_what_a_run_does_not_have(folder: Path, bench: Bench, tmp_path: Path) -> None:
    picture_set = sets.find(folder)
    kept = results.load(tmp_path / "absent")
    for outcome in measure.run_all(bench, measure.jobs([picture_set], [Coarse(tmp_path / "log")])):
        results.add_curve(kept, outcome)
    results.add_sets(kept, [picture_set])
    file = tmp_path / "results.json"
    results.save(kept, file, {"processor": "p", "cores": 2})
    again = results.load(file)
    assert json.loads(file.read_text()) == again
    other = Coarse(tmp_path / "log2", name="other", family="other")
    (job,) = measure.jobs([sets.find(folder, subset=1)], [other])
    outcome = bench.run(job)
    for point in outcome.points:
        point["flip"] = 0.5
    results.add_curve(again, outcome)
    results.add_sets(again, [sets.find(folder, subset=1)])
    assert len(again["sets"][0]["pictures"]) == 2
    assert set(again["curves"]["set/flat/one"]) == {"coarse", "other"}
    assert set(again["curves"]["set/noisy/two"]) == {"coarse"}
    results.save(again, file, {})
    assert summary.View(again).metrics == ["psnr", "ms_ssim", "flip"]
    assert again["curves"]["set/flat/one"]["coarse"]["points"][0]["details"] == {"num_gaussians": 7}


# -- neural peers


@pytest.mark.parametrize("name", ["siren", "hash-grid"])
def test_networks_keep_to_their_bytes_and_decode_from_them(name: str) -> None:
    pytest.importorskip("torch")
    from rd import neural

    codec = neural.Network(name, name)
    a, _ = pictures((96, 88))
    data = codec.encode(a, {"bpp": 2.0, "steps": 30}).data
    assert 0.7 * 2.0 * 96 * 88 / 8 < len(data) <= 2.0 * 96 * 88 / 8
    decoded = codec.decode(data)
    assert decoded.shape == a.shape
    # Thirty steps only: better than the mean colour, which has 12.6 dB.
    assert metrics.psnr(a / 255, decoded / 255) > 13
