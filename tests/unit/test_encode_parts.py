"""Which maps of a stack share Gaussians: the search, the split of the bytes, and the file that comes of it."""

from __future__ import annotations

import gc
import io
import weakref
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the encoder needs torch")

import igs
from igs.encoder import EncodeOptions, encode, multipart, pack, parts, pipeline
from igs.encoder.job import Result
from igs.encoder.loading.source import SourceImage
from igs.encoder.loading.stack import TextureMap, load_stack
from igs.encoder.options import Progress
from igs.encoder.parts import Curve
from igs.format import open_file, validate_file

SIDE = 96


def maps() -> dict[str, np.ndarray]:
    """Colour and roughness with the same edges, occlusion with edges of its own, and a map without any."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    bricks = ((np.floor(8 * y) + np.floor(4 * x + 0.5 * (np.floor(8 * y) % 2))) % 2).astype(np.float32)
    spots = (np.sin(19 * x + 3 * y) * np.cos(23 * y - 2 * x) > 0.3).astype(np.float32)
    return {
        "albedo": np.stack([0.2 + 0.6 * bricks, 0.3 + 0.2 * bricks, 0.5 - 0.3 * bricks], axis=2),
        "ao": 0.2 + 0.7 * spots,
        "roughness": 0.8 - 0.5 * bricks,
        "metalness": np.zeros((SIDE, SIDE), np.float32),
    }


def stack() -> SourceImage:
    return load_stack(maps(), size_limit=10**6, dimension_limit=10**4)


def quick(**settings: Any) -> Any:
    return encode(maps(), **({"size": 2400, "steps": 40, "effort": 3, "threads": 1} | settings))


def test_at_the_best_split_a_byte_gains_as_much_everywhere() -> None:
    curves = [Curve((0,), 1000, 0.3, 0.7), Curve((1,), 400, 0.02, 1.2), Curve((2,), 900, 0.1, 0.5)]
    sizes = parts.divide(curves, 5000)
    assert sum(sizes) == pytest.approx(5000)
    slopes = [c.fall * c.at(b) / b for c, b in zip(curves, sizes, strict=True)]
    assert slopes == pytest.approx([slopes[0]] * 3, rel=1e-6)
    error = sum(c.at(b) for c, b in zip(curves, sizes, strict=True))
    for i, j in ((0, 1), (1, 2), (2, 0)):
        other = list(sizes)
        other[i], other[j] = other[i] + 50, other[j] - 50
        assert sum(c.at(b) for c, b in zip(curves, other, strict=True)) > error


@pytest.mark.parametrize("total", [100, 1000])
def test_a_part_without_errors_gets_little_but_something(total: float) -> None:
    sizes = parts.divide([Curve((0,), 1000, 0.3), Curve((1,), 100, 0.0)], total)
    assert sum(sizes) == pytest.approx(total)
    assert 0 < sizes[1] == pytest.approx(min(150, total / 2))


def test_a_curve_learns_its_slope_from_measurements_that_are_far_apart() -> None:
    curve = Curve((0,), 1000, 0.4)
    curve.measured(2000, 0.2)
    assert curve.fall == pytest.approx(1.0)
    curve.measured(2100, 0.1)
    assert (curve.fall, curve.size, curve.error) == (pytest.approx(1.0), 2100, 0.1)
    curve.measured(9000, 0.2)  # more bytes, more error: a bad fit, and no slope
    assert curve.fall == 0.25


def test_the_search_joins_what_is_cheaper_together() -> None:
    """By made-up errors: 0 and 2 share all they have, 1 has nothing in common with them, 3 costs nothing anywhere."""
    source, asked = stack(), []

    def probe(part: tuple[int, ...], size: float) -> tuple[float, float]:
        asked.append(part)
        sets = {(0, 2) if i in (0, 2) else (i,) for i in part} - {(3,)}
        channels = sum(source.groups[i].channels for i in part)
        work = sum(4 + channels for _ in sets)
        return size, 0.01 * work * len(sets) / size if sets else 0.0

    found = [curve.groups for curve in parts.search(source, 3000, probe).curves]
    assert (0, 2) in [tuple(i for i in part if i != 3) for part in found]
    assert (1,) in [tuple(i for i in part if i != 3) for part in found]
    assert sorted(i for part in found for i in part) == [0, 1, 2, 3]
    assert found == sorted(found)
    assert len(asked) <= 4 * 4 + 2 * 4 + 1


def test_edges_of_large_maps_are_summed_over_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = parts.edge_energies(stack())
    monkeypatch.setattr(parts, "_CELLS", 20)
    coarse = parts.edge_energies(stack())
    assert {e.shape for e in coarse} == {(24, 24)}
    for a, b in zip(fine, coarse, strict=True):
        assert a.sum() == pytest.approx(b.sum(), rel=1e-4)
    assert parts._alike(coarse, (0,), (2,)) > 0.99


def test_edges_tell_which_maps_are_alike() -> None:
    energies = parts.edge_energies(stack())
    assert parts._alike(energies, (0,), (2,)) > 0.99
    assert abs(parts._alike(energies, (0,), (1,))) < 0.2
    assert parts._alike(energies, (0,), (3,)) == 1.0  # without edges it fits any other


def test_the_file_has_the_parts_that_were_found() -> None:
    encoded = quick(parts="auto")
    assert len(encoded.data) <= 2400
    assert len(encoded.data) > 0.95 * 2400
    assert validate_file(encoded.data).valid
    found = [set(part["groups"]) for part in encoded.report["parts"]]
    assert {"albedo", "roughness"} <= next(part for part in found if "albedo" in part)
    assert not any({"albedo", "ao"} <= part for part in found)
    with open_file(encoded.data) as file:
        names = [[group.name for group in part.header.groups] for part in file.parts]
        assert [sorted(n) for n in names] == [sorted(part["groups"]) for part in encoded.report["parts"]]
        assert [g.name for g in file.header.groups] == list(maps())  # the order stays
        assert file.num_gaussians == encoded.report["num_gaussians"]
        assert file.num_gaussians == sum(part["num_gaussians"] for part in encoded.report["parts"])
    with igs.open(encoded.data) as im:
        for group in encoded.report["groups"]:
            source = maps()[group["name"]]
            error = np.square(im.groups[group["name"]].decode(dtype="float32").squeeze() - source).mean()
            assert group["psnr"] == (None if error == 0 else pytest.approx(-10 * np.log10(error), abs=1e-3))


def test_parts_beat_one_part_and_one_for_each() -> None:
    """At the same size, on maps that two by two share everything or nothing.

    The mean of three seeds: of six single ones auto had −0.7 to +3.4 dB more than each, −0.2 to +3.7 more than one.
    """
    psnr = {
        how: np.mean([quick(parts=how, steps=150, seed=seed).report["psnr"] for seed in range(1, 4)])
        for how in ("auto", "one", "each")
    }
    assert psnr["auto"] > psnr["one"]
    assert psnr["auto"] > psnr["each"]


def test_the_same_bytes_every_time() -> None:
    assert quick().data == quick().data
    assert quick().data != quick(seed=1).data


@pytest.mark.parametrize("how", [[["albedo", "roughness"], ["ao"]], ["albedo", ["ao", "roughness"]]])
def test_parts_by_names(how: Any) -> None:
    report = quick(parts=how).report
    found = sorted(sorted(part["groups"]) for part in report["parts"])
    named = [[one] if isinstance(one, str) else sorted(one) for one in how]
    assert found == sorted([*named, sorted(set(maps()) - {name for part in named for name in part})])


def test_one_part_has_no_table() -> None:
    for settings in ({"parts": "one"}, {"parts": [list(maps())]}, {"effort": 1}, {"size": 1500}):
        encoded = quick(**settings)
        assert "parts" not in encoded.report
        assert encoded.data[10] == 0
    alone = encode(maps()["albedo"], size=900, steps=5, threads=1)
    assert "parts" not in alone.report


def test_a_quality_buys_bytes_for_each_part() -> None:
    low, high = (quick(size=None, quality=q, parts="each").report for q in (20, 80))
    assert high["bytes"] > 1.3 * low["bytes"]
    assert [p["groups"] for p in high["parts"]] == [[name] for name in maps()]
    assert low["bytes"] < quick(size=None, quality=50, parts="each").report["bytes"] < high["bytes"]


def test_each_part_has_the_count_and_meets_the_psnr_that_are_asked_for() -> None:
    report = quick(size=None, num_gaussians=40, parts="each").report
    assert [p["num_gaussians"] for p in report["parts"]] == [40] * 4
    report = quick(size=None, psnr=24, steps=80, parts=[["albedo", "roughness"]]).report
    assert report["rate_met"]
    by_name = {g["name"]: g for g in report["groups"]}
    errors = [by_name[n]["channels"] * 10 ** (-by_name[n]["psnr"] / 10) for n in ("albedo", "roughness")]
    assert -10 * np.log10(sum(errors) / 4) >= 24
    assert by_name["ao"]["psnr"] is None or by_name["ao"]["psnr"] >= 24 - 10 * np.log10(2)


def test_bytes_left_and_metadata_count() -> None:
    sections = {"soft": b"s" * 300}
    encoded = quick(sections=sections)
    assert 0.95 * 2400 < len(encoded.data) <= 2400
    with igs.open(encoded.data) as im:
        assert im.metadata["soft"] == "s" * 300
    bpp = quick(size=None, bpp=2.0)
    assert len(bpp.data) * 8 <= 2.0 * SIDE * SIDE


def test_weights_move_bytes_between_parts() -> None:
    def share(weight: float) -> float:
        weighted = maps() | {"ao": TextureMap(maps()["ao"], weight=weight)}
        how = [["albedo", "roughness", "metalness"], ["ao"]]
        report = encode(weighted, size=2400, steps=40, effort=3, threads=1, parts=how).report
        return next(p["bytes"] for p in report["parts"] if p["groups"] == ["ao"]) / report["bytes"]

    assert share(8.0) > 1.2 * share(0.125)


def test_reduced_for_enlarging() -> None:
    report = quick(downsample=2, size=1800).report
    assert (report["width"], report["height"]) == (SIDE // 2, SIDE // 2)
    assert report["bytes"] <= 1800
    assert report["parts"]


def test_progress_is_of_all_parts_together() -> None:
    seen: list[Any] = []
    quick(parts="each", on_progress=seen.append, log_every=10)
    steps = [p.step for p in seen]
    assert steps == sorted(steps)
    assert {p.steps for p in seen} == {4 * 40}
    assert steps[-1] == 4 * 40


def test_progress_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of few Gaussians may take more steps than those of many, or fewer."""
    seen: list[Any] = []
    encoder, lengths = _encoder(on_progress=seen.append), iter((100, 60, 80))

    def one(curve: Curve, size: float, tell: Any) -> multipart._Made:
        steps = next(lengths)
        for step in (0, steps // 2, steps):
            tell(Progress(step, steps, 0.0, 10, 0.1))
        return multipart._Made(curve, Result(b"", None, steps))

    monkeypatch.setattr(encoder, "_one", one)
    encoder.encode([Curve(part, 900, 0.1) for part in ((0,), (1,), (2, 3))], 2700)
    assert [p.step for p in seen] == [0, 50, 100, 100, 130, 160, 160, 200, 240]
    assert (seen[0].steps, seen[-1].steps) == (300, 240)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"parts": "some"}, "parts: expected one of auto, one, each, found 'some'"),
        ({"parts": 3}, "parts: expected auto, one, each, or names"),
        ({"parts": [["albedo", "nothing"]]}, "parts: expected names among albedo, ao, roughness, metalness"),
        ({"parts": [[["albedo"]]]}, "parts: expected auto, one, each, or names"),
        ({"parts": [["albedo"], ["albedo"]]}, "parts: expected each map in one part"),
        ({"parts": [["albedo"], []]}, "parts: expected each map in one part, none empty"),
        ({"parts": "each", "levels": 2}, "one level beside them, found 2"),
        ({"parts": "each", "checkpoint": "x.npz"}, "no checkpoint beside them"),
        ({"parts": "each", "preset": "gaussianimage++", "lowpass_alpha": 9.0}, "without a lowpass"),
        ({"parts": "each", "size": 300}, "size: expected"),
    ],
)
def test_what_there_can_be_no_parts_of(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(igs.UsageError) as error:
        quick(**settings)
    assert expected in str(error.value)


def test_auto_gives_way() -> None:
    """Where there can't be parts, and nobody asked for them, there are none."""
    for settings in ({"size": None, "num_gaussians": 40}, {"levels": 2}, {"size": None, "psnr": 20}):
        assert "parts" not in quick(**settings).report


def test_options_keep_names_of_parts_as_tuples() -> None:
    assert EncodeOptions(parts=["a", ["b", "c"]]).parts == (("a",), ("b", "c"))


def test_a_stream_of_such_files(tmp_path: Any) -> None:
    data = quick(parts="each").data
    with igs.open(io.BytesIO(data)) as im:
        expected = im.decode()
    (tmp_path / "a.igs").write_bytes(data)
    for pixels in igs.decode_many([tmp_path / "a.igs", data]):
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
@pytest.mark.parametrize("how", ["auto", "each"])
def test_maps_of_one_pixel_a_side(shape: tuple[int, int], how: str) -> None:
    ramp = np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    encoded = encode({"a": ramp, "b": 1 - ramp}, size=900, steps=5, effort=3, threads=1, parts=how)
    assert len(encoded.data) <= 900
    assert "parts" in encoded.report or how == "auto"


def test_a_rate_that_is_too_low_is_missed_as_that_of_one_part_is() -> None:
    told: list[str] = []
    encoded = quick(size=None, bpp=0.2, parts="each", on_warning=told.append)
    assert not encoded.report["rate_met"]
    assert len(told) == 1
    assert told[0].startswith("--bpp 0.2: the smallest file of these parts has")
    with pytest.raises(igs.IgsError, match=r"--bpp 0\.2: the smallest file of these parts has"):
        quick(size=None, bpp=0.2, parts="each", strict_rate=True)


def test_metadata_leaves_too_little_for_a_search() -> None:
    sections = {"soft": b"s" * 500}
    assert "parts" in quick(size=1700).report
    encoded = quick(size=1700, sections=sections)
    assert "parts" not in encoded.report
    assert len(encoded.data) <= 1700


def test_parts_have_heads_that_need_more_than_there_is() -> None:
    """Tables for the colours of each part: a search would find no file of this size."""
    settings = {"size": 16_000, "preset": "gaussianimage", "feat_bits": 8, "parts": "auto", "steps": 5}
    assert "parts" not in quick(**settings).report
    with pytest.raises(igs.UsageError, match="size: expected"):
        quick(**settings | {"parts": "each"})


def test_regions_of_a_picture_that_is_reduced() -> None:
    """Wherever they are: the search looks at the reduced picture, where they are elsewhere or nowhere."""
    report = quick(downsample=2, roi=[(60, 60, 30, 30, 3.0)]).report
    assert report["parts"]
    assert "roi_psnr" in report


def test_what_is_said_of_the_picture_is_said_once() -> None:
    told: list[str] = []
    quick(parts="each", linear_light=True, on_warning=told.append)
    assert told == []  # of maps without colours it changes nothing, but of the albedo
    bright = {name: 4 * pixels for name, pixels in maps().items()}
    encode(bright, size=2400, steps=5, effort=3, threads=1, transfer="srgb", parts="each", on_warning=told.append)
    assert [float(message.split(";")[0].split()[-1]) for message in told] == pytest.approx([3.2, 3.6, 3.2])


def test_parts_with_more_chunks_than_an_index_of_one_stage_holds() -> None:
    """None has by itself; the nodes take some bytes."""
    small = {name: pixels[:64, :64] for name, pixels in maps().items() if name != "metalness"}
    encoded = encode(small, size=130_000, chunk_size=1, steps=20, effort=3, threads=1, parts="each")
    assert 129_000 < len(encoded.data) <= 130_000
    with open_file(encoded.data) as file:
        assert file.head.two_stage
        assert max(p.last_chunk - p.first_chunk for p in file.parts) <= 4096


def test_the_report_counts_payloads() -> None:
    encoded = quick(parts="each")
    with open_file(encoded.data) as file:
        extents = [file.part_extent(part) for part in file.parts]
    assert [p["bytes"] for p in encoded.report["parts"]] == [e.num_bytes for e in extents]
    assert [p["num_gaussians"] for p in encoded.report["parts"]] == [e.num_gaussians for e in extents]


def _encoder(**settings: Any) -> multipart._Encoder:
    return multipart._Encoder(stack(), EncodeOptions(**({"size": 4000, "effort": 3} | settings)), None)


def test_another_split_of_the_bytes_keeps_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part whose bytes hardly change stays as it is, and the others share what it leaves."""
    encoder = _encoder()
    total = sum(encoder.divided([Curve(part, 1000, 0.0) for part in ((0,), (1,), (2, 3))], 4000))

    def made(part: tuple[int, ...], size: float, error: float) -> multipart._Made:
        return multipart._Made(Curve(part, size, error), Result(b"", None, 1))

    before = [made((0,), 0.38 * total, 0.001), made((1,), 0.12 * total, 0.4), made((2, 3), 0.5 * total, 0.15)]
    monkeypatch.setattr(encoder, "_one", lambda curve, size: made(curve.groups, size, 0.01))
    after = encoder.again(before, 4000)
    stayed = [old is new for old, new in zip(before, after, strict=True)]
    assert stayed == [False, False, True]
    assert 0.99 * total < sum(one.curve.size for one in after) <= total
    monkeypatch.setattr(encoder, "_one", lambda curve, size: made(curve.groups, size, 0.5))
    assert encoder.again(before, 4000) is before  # no better


@pytest.mark.parametrize("better", [False, True])
def test_parts_that_were_left_in_doubt_are_tried_together(monkeypatch: pytest.MonkeyPatch, better: bool) -> None:
    encoder = _encoder()
    parts_ = ((0,), (1,), (2, 3))
    before = [multipart._Made(Curve(part, 1000, 0.1, 0.8), Result(b"", None, 1)) for part in parts_]

    def one(curve: Curve, size: float) -> multipart._Made:
        assert (curve.groups, size) == ((0, 2, 3), 2000)
        return multipart._Made(Curve(curve.groups, size, 0.19 if better else 0.21), Result(b"", None, 1))

    monkeypatch.setattr(encoder, "_one", one)
    after = encoder.joined(before, [((0,), (2, 3)), ((1,), (4,))])
    assert [made.curve.groups for made in after] == ([(0, 2, 3), (1,)] if better else list(parts_))


def test_quick_encodes_are_quick_whatever_the_steps() -> None:
    asked: list[int] = []

    def fitted(source: Any, options: Any, recipe: Any, warn: Any) -> Any:
        asked.append(recipe.steps)
        raise InterruptedError

    usual = EncodeOptions(effort=1).recipe().steps
    for settings, steps in (({}, usual), ({"steps": 100_000}, usual), ({"steps": 7}, 7)):
        encoder = multipart._Encoder(stack(), EncodeOptions(size=4000, overrides=settings), fitted)
        with pytest.raises(InterruptedError):
            encoder.probe((0,), 500.0)
        assert asked[-1] == steps


def test_a_fit_is_let_go_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds its part of the picture twice."""
    jobs: list[Any] = []

    def fitted(*args: Any) -> Any:
        gc.collect()
        assert [job for job in jobs if job() is not None] == []
        job, result = pipeline_fitted(*args)
        jobs.append(weakref.ref(job))
        return job, result

    pipeline_fitted = pipeline.fitted
    monkeypatch.setattr(pipeline, "fitted", fitted)
    quick(parts="each")
    assert len(jobs) >= 2 * 4


def test_flat_maps_together_stay_within_a_readers_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part alone may reach over as much as readers allow, all of them together not."""
    monkeypatch.setattr(pack, "_REACH_RATIO", 20)
    flat = {f"m{i}": np.full((64, 64), i / 7, np.float32) for i in range(6)}
    for how in ("each", [["m0", "m3"], ["m1"]]):
        data = encode(flat, num_gaussians=20, steps=10, threads=1, parts=how).data
        with open_file(data, igs.Limits(reach_ratio=float("inf"))) as file:
            area = file.entries["reach_area"].astype(np.float64).sum()
        assert area / (64 * 64 + 4096) <= 1.1 * 20  # rounding and closed holes are not in it
