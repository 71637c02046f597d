"""The rate-distortion benchmark: its curves, metrics, cache and document, with codecs that cost nothing."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from PIL import Image
from rd import curves, measure, metrics, results, sets, summary, tables
from rd.cache import Key, Store
from rd.codecs import CLASSICAL, Encoded
from rd.measure import Bench

TEST = [(0.1, 27.0), (0.15, 28.4), (0.2, 29.3), (0.3, 30.9), (0.4, 31.8)]
# One point (0.17) is beaten by a cheaper one (0.16).
ANCHOR = [(0.05, 23.1), (0.09, 26.2), (0.17, 28.0), (0.16, 28.1), (0.26, 30.0), (0.5, 32.9), (0.9, 36.0)]


def points(curve: list[tuple[float, float]], up: float = 0.0, rate: float = 1.0) -> list[dict[str, float]]:
    """A curve's points; MS-SSIM and FLIP such that their decibels are a third of PSNR's."""
    made = []
    for bpp, psnr in curve:
        rest = 10 ** (-(psnr + up) / 30)
        made.append({"bpp": bpp * rate, "psnr": psnr + up, "ms_ssim": 1 - rest, "flip": rest})
    return made


# -- curves


def test_envelope_drops_what_a_cheaper_point_beats() -> None:
    assert curves.envelope(points(ANCHOR), "psnr") == [p for p in sorted(ANCHOR) if p[0] != 0.17]


def test_bd_rate_equals_the_values_of_an_independent_program() -> None:
    # Computed once by another implementation of the same definition.
    assert curves.bd_rate(points(TEST), points(ANCHOR)).percent == pytest.approx(-9.419227707746636, abs=1e-9)
    assert curves.bd_rate(points(ANCHOR), points(TEST)).percent == pytest.approx(10.398705453024903, abs=1e-9)
    assert curves.at(points(ANCHOR), 0.2) == pytest.approx(28.939378918069913, abs=1e-9)


def test_quality_a_little_beyond_a_curve_is_that_of_its_end() -> None:
    low, high = TEST[0], TEST[-1]
    assert curves.at(points(TEST), 0.0996) is None
    assert curves.at(points(TEST), 0.0996, tolerance=0.01) == pytest.approx(low[1])
    assert curves.at(points(TEST), 0.4004, tolerance=0.01) == pytest.approx(high[1])
    assert curves.at(points(TEST), 0.098, tolerance=0.01) is None
    assert curves.at(points(TEST), 0.41, tolerance=0.01) is None
    assert curves.at(points(TEST), 0.2, tolerance=0.01) == curves.at(points(TEST), 0.2)


@pytest.mark.parametrize("metric", ["psnr", "ms_ssim", "flip"])
@pytest.mark.parametrize("rate", [0.5, 1.0, 1.25])
def test_bd_rate_of_a_curve_at_other_rates_is_that_factor(metric: str, rate: float) -> None:
    comparison = curves.bd_rate(points(TEST, rate=rate), points(TEST), metric)
    assert comparison.percent == pytest.approx(100 * (rate - 1), abs=1e-6)
    assert comparison.relation == "overlap"


def test_curves_without_overlap_say_on_which_side_they_lie() -> None:
    assert curves.bd_rate(points(TEST, up=12), points(ANCHOR)) == curves.Comparison(None, "above")
    assert curves.bd_rate(points(TEST, up=-20), points(ANCHOR)) == curves.Comparison(None, "below")
    assert curves.bd_rate(points(TEST)[:1], points(ANCHOR)) == curves.Comparison(None, "too few points")
    assert curves.bd_rate(points(TEST), []) == curves.Comparison(None, "too few points")
    assert curves.bd_rate(points(TEST), points(ANCHOR), "lpips").relation == "too few points"


def test_mean_curve_covers_the_rates_that_all_pictures_have() -> None:
    mean = curves.mean_curve([points(TEST), points(TEST, up=2)], "psnr")
    assert mean[0] == (pytest.approx(0.1), pytest.approx(28.0))
    assert mean[-1] == (pytest.approx(0.4), pytest.approx(32.8))
    assert curves.mean_curve([points(TEST), points(TEST, rate=10)], "psnr") == []


def test_crossing_is_where_the_lead_changes() -> None:
    flat = [(0.1, 29.0), (0.2, 29.3), (0.4, 29.6)]
    (found,) = curves.crossings(TEST, flat)
    assert found == (pytest.approx(0.2, rel=1e-3), pytest.approx(29.3, abs=0.01))
    assert curves.crossings(TEST, [(r, q + 3) for r, q in TEST]) == []


# -- metrics


def pictures(size: tuple[int, int] = (192, 176)) -> tuple[np.ndarray, np.ndarray]:
    """A picture with flat, smooth and busy parts, and a damaged copy, uint8 [H, W, 3]."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: size[0], : size[1]] * (4.5 / max(size))
    base = np.stack([np.sin(x) * np.cos(y), np.sin(x * y / 3), np.where(x > 2, 0.5, -0.5)], 2) * 90 + 128
    noise = rng.normal(0, 12, base.shape) * (y > 2)[..., None]
    return base.clip(0, 255).astype(np.uint8), (base + noise).clip(0, 255).astype(np.uint8)


def test_psnr_of_a_known_error() -> None:
    a = np.zeros((4, 5, 3))
    assert metrics.psnr(a, a + 0.1) == pytest.approx(20.0)
    assert metrics.psnr(a, a) == metrics.EXACT


def test_ms_ssim_equals_the_encoders_report() -> None:
    pytest.importorskip("torch", reason="the encoder needs torch")
    from igs.encoder import metrics as encoder

    a, b = (p / 255.0 for p in pictures())
    theirs = encoder.ms_ssim(a.astype(np.float32), b.astype(np.float32))
    assert metrics.ms_ssim(a, b) == pytest.approx(theirs, abs=1e-4)


def test_ms_ssim_equals_pytorch_msssim() -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("pytorch_msssim")
    a, b = (p / 255.0 for p in pictures())
    x, y = (torch.from_numpy(p.transpose(2, 0, 1)[None].copy()) for p in (a, b))
    # Worst difference seen 3e-6: its window is made in single precision.
    assert metrics.ms_ssim(a, b) == pytest.approx(float(theirs.ms_ssim(x, y, data_range=1.0)), abs=1e-4)


def test_ms_ssim_of_equal_and_of_small_pictures() -> None:
    a, b = (p / 255.0 for p in pictures((40, 30)))
    assert metrics.ms_ssim(a, a) == pytest.approx(1.0)
    assert 0 < metrics.ms_ssim(a, b) < 1


def test_flip_of_equal_pictures_is_zero() -> None:
    pytest.importorskip("flip_evaluator")
    a, b = pictures()
    assert metrics.flip(a, a) == pytest.approx(0.0, abs=1e-6)
    assert 0.01 < metrics.flip(a, b) < 1


def test_lpips_needs_whole_weights_and_is_zero_for_equal_pictures() -> None:
    torch = pytest.importorskip("torch")
    from rd import lpips

    with pytest.raises(ValueError, match=r"no 'net\.slice1\.0\.weight'"):
        lpips.Lpips({})
    generator = torch.Generator().manual_seed(0)
    shapes = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
    state = {}
    for i, (name, (out, inside, side)) in enumerate(zip(lpips._NAMES, shapes, strict=True)):
        state[f"{name}.weight"] = torch.randn(out, inside, side, side, generator=generator) / (side * inside**0.5)
        state[f"{name}.bias"] = torch.zeros(out)
        state[f"lin{i}.model.1.weight"] = torch.ones(1, out, 1, 1) / out
    distance = lpips.Lpips(state)
    a, b = pictures()
    assert distance(a, a) == 0
    assert distance(a, b) == pytest.approx(distance(b, a))
    assert distance(a, b) > 0


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


# -- results and document


def content(test_up: float = 0.0) -> dict:
    """Results of one set with two pictures: igs and WebP; on the second igs is `test_up` dB away."""
    found = [{"name": f"set/{n}", "category": n, "width": 40, "height": 48} for n in ("one", "two")]
    profile = {"rates": [0.1, 0.2, 0.4], "more_rates": [], "limit": 1.0, "some": 6, "few": 2}
    igs = [[p | {"target": p["bpp"], "bytes": 1, "setting": ""} for p in points(TEST, up)] for up in (0.0, test_up)]
    webp = [p | {"bytes": 1, "setting": ""} for p in points(ANCHOR)]
    return results.load(Path("absent")) | {
        "sets": [{"name": "set", "profile": profile, "pictures": found}],
        "codecs": {"igs": {"label": "igs", "versions": ["1"]}, "webp": {"label": "WebP", "versions": ["1"]}},
        "curves": {
            p["name"]: {"igs": {"points": igs[i]}, "webp": {"points": webp}} for i, p in enumerate(found)
        },
        "date": "2025-01-01",
    }  # fmt: skip


@pytest.mark.parametrize(("up", "relation"), [(12.0, "above"), (-20.0, "below")])
def test_pictures_without_overlap_are_in_the_tables(up: float, relation: str) -> None:
    view = summary.View(content(up))
    compared = view.compare("set", "igs", "webp")
    assert compared.percent == {"set/one": pytest.approx(-9.419227707746636)}
    assert compared.apart == {relation: ["set/two"]}
    assert compared.count == 2
    assert f"| WebP | 2 | −9.4 %; {relation} on 1 |" in tables.bd_rates(view, "set")
    assert relation in tables.every_picture(view).splitlines()[-1]
    assert relation in tables.by_category(view, "set")
    assert ("set/two: no overlap" in tables.worse_than_webp(view)) == (relation == "below")


def test_a_metric_counts_where_all_points_have_it() -> None:
    """Of the pictures where both curves are whole; how many these are stands with the number."""
    found = content()
    for picture, by_codec in found["curves"].items():
        for codec, curve in by_codec.items():
            curve["points"] = [p | {"flip": 1 - p["ms_ssim"]} for p in curve["points"]]
            if picture == "set/two" and codec == "igs":
                del curve["points"][1]["flip"]
    view = summary.View(found)
    assert view.compare("set", "igs", "webp", "psnr").count == 2
    assert set(view.compare("set", "igs", "webp", "flip").percent) == {"set/one"}
    head, _, row = tables.bd_rates(view, "set").splitlines()[2:5]
    assert head == "| against | pictures | PSNR | MS-SSIM | FLIP |"
    assert row.endswith("% (of 1) |")
    assert row.count("(of") == 1
    for by_codec in found["curves"].values():
        for point in by_codec["webp"]["points"]:
            del point["flip"]
    assert "FLIP" not in tables.bd_rates(summary.View(found), "set")


def test_a_figure_is_of_pictures_that_all_codecs_span() -> None:
    pytest.importorskip("matplotlib")
    from rd import plots

    found = content()
    names = [p["name"] for p in found["sets"][0]["pictures"]]
    assert plots._shared(summary.View(found), names, ["igs", "webp"], "psnr", 0.4) == names
    curve = found["curves"]["set/two"]["webp"]
    curve["points"] = [p | {"bpp": 100 * p["bpp"]} for p in curve["points"]]  # no rate in common with the other's
    assert plots._shared(summary.View(found), names, ["igs", "webp"], "psnr", 0.4) == ["set/one"]


def test_pictures_worse_than_webp_are_named() -> None:
    assert tables.worse_than_webp(summary.View(content())) == "None of 2.\n"
    lines = tables.worse_than_webp(summary.View(content(-1.5)))
    assert lines.startswith("- set/two: +")
    assert "set/one" not in lines


def test_deviation_is_the_samples() -> None:
    found = summary.Summary({"a": 1.0, "b": 3.0})
    assert found.text() == f"+2.0 ± {math.sqrt(2):.1f} %"
    assert summary.Summary().text() == "–"


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


def test_the_document_is_made_of_the_results_alone(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from rd import document

    page = tmp_path / "page.md"
    document.write(content(12.0), page)
    first = page.read_bytes(), {p.name: p.read_bytes() for p in (tmp_path / "images").iterdir()}
    document.write(content(12.0), page)
    assert first == (page.read_bytes(), {p.name: p.read_bytes() for p in (tmp_path / "images").iterdir()})
    text = page.read_text()
    assert "above on 1" in text
    for name in first[1]:
        assert f"](images/{name})" in text
    assert first[1]


def test_every_section_has_its_table() -> None:
    whole = content()
    one = whole["curves"]["set/one"]
    for p in one["igs"]["points"]:
        p["details"] = {"num_gaussians": 4, "bits_by_attribute": {"position": 41.0, "scale": 38.0}}
    for name in ("image-gs", "siren"):
        whole["codecs"][name] = {"label": name.upper(), "versions": ["1"]}
        found = points(TEST, up=-1, rate=2)
        one[name] = {"points": [p | {"target": p["bpp"], "bytes": 1, "setting": ""} for p in found]}
    whole["ablation"] = {
        "full recipe": {"options": "", "curves": {"set/one": one["igs"]["points"]}},
        "no growth": {"options": "--no-growth", "curves": {"set/one": one["image-gs"]["points"]}},
    }
    clock = {"picture": "set/one", "width": 40, "height": 48, "bpp": 0.2, "encode_s": 1.25, "decode_s": 0.015}
    whole["times"] = {"igs": {"set": clock}}
    view = summary.View(whole)
    assert "| set | 0.1 | 4 | 10.25 | 9.50 | 2.00 |" in tables.attributes(view)
    assert "| IMAGE-GS | 1 | −" in tables.presets(view)
    assert "| SIREN | set/one | 0.200 | 26.00 | 29.30 | – |" in tables.neural(view)
    assert "| no growth | `--no-growth` | 28.48 | " in tables.ablation(view)
    assert "| igs | 10 | +0.00 % | +0.00 % |" in tables.rate_control(view)
    assert "| igs | set/one | 40×48 | 0.20 | 1.25 | 0.015 |" in tables.times(view)


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
