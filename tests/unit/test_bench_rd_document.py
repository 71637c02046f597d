"""The rate-distortion benchmark: its tables, figures and document."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from rd import results, summary, tables
from rd_cases import ANCHOR, TEST, points


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
