"""Levels of quality: fitted together, written, reported, opened as they arrive."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

import igs
from igs.encoder import encode, levels, targets
from igs.encoder.fitting.fit import Fit
from igs.encoder.raster import kernels
from igs.encoder.raster.loss import LossWeights
from igs.encoder.raster.model import Model
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.recipe import Recipe
from igs.format.describe import with_level_psnr
from igs.format.errors import InvalidFile, UsageError

SIDE = 48


def picture() -> np.ndarray:
    """Smooth colours with an edge, float32 [48, 48, 3]."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    edge = (x + 0.3 * y > 0.6) * 0.4
    return np.stack([0.2 + 0.5 * x, 0.3 + edge, 0.8 - 0.5 * y], axis=2).astype(np.float32)


@pytest.fixture(scope="module")
def encoded():
    return encode(picture(), num_gaussians=48, levels=3, steps=60, seed=1)


def test_ends_are_equal_shares_none_empty():
    assert levels.ends_of(9, 3) == [3, 6, 9]
    assert levels.ends_of(5, 5) == [1, 2, 3, 4, 5]
    for n in range(4, 40):
        counts = np.diff([0, *levels.ends_of(n, 4)])
        assert counts.sum() == n
        assert counts.min() >= 1
        assert counts.max() - counts.min() <= 1
    with pytest.raises(UsageError, match="3 for 2"):
        levels.ends_of(2, 3)


def test_a_prefix_is_a_file(encoded):
    report, data = encoded.report, encoded.data
    assert [level["num_gaussians"] for level in report["levels"]] == [16, 32, 48]
    ends = [level["bytes"] for level in report["levels"]]
    assert ends == sorted(ends)
    assert ends[-1] == len(data) == report["bytes"]
    assert report["levels"][-1]["psnr"] == report["psnr"]
    with igs.open(data) as whole:
        assert whole.num_levels == len(whole.levels) == 3
        for level, end in enumerate(ends):
            with igs.open(data[:end]) as part:
                assert part.partial == (level < 2)
                assert len(part.levels) == level + 1
                assert part.num_levels == 3
                pixels = part.decode(dtype="float32")
            assert np.array_equal(pixels, whole.decode(level=level, dtype="float32"))
            measured = -10 * np.log10(np.mean((pixels - picture()) ** 2))
            assert measured == pytest.approx(report["levels"][level]["psnr"], abs=1e-3)


def test_each_level_gains(encoded):
    psnr = [level["psnr"] for level in encoded.report["levels"]]
    assert psnr[0] > 20
    assert psnr[0] + 1 < psnr[1] < psnr[2]


def test_psnr_of_the_levels_is_in_the_metadata(encoded):
    with igs.open(encoded.data) as im:
        stated = im.metadata["json"]["level_psnr"]
    assert stated == [round(level["psnr"], 2) for level in encoded.report["levels"]]


def test_same_options_same_bytes(encoded):
    assert encode(picture(), num_gaussians=48, levels=3, steps=60, seed=1).data == encoded.data


def test_one_level_says_nothing_of_levels():
    one = encode(picture(), num_gaussians=8, steps=5)
    assert "levels" not in one.report
    with igs.open(one.data) as im:
        assert "json" not in im.metadata
        assert im.num_levels == 1


@pytest.mark.parametrize(("bad", "message"), [(0, "1 to 16"), (17, "1 to 16"), (2.5, "1 to 16"), (9, "9 for 8")])
def test_bad_number_of_levels(bad, message):
    with pytest.raises(UsageError, match=message):
        encode(picture(), num_gaussians=8, levels=bad, steps=1)


def test_no_prefix_leaves_a_point_bare():
    from igs.decoder import holes
    from igs.format import open_file

    data = encode(picture(), num_gaussians=24, levels=4, steps=4).data
    with open_file(data) as file:
        first = file.read_gaussians(range(file.levels[0].num_chunks))[0]
        assert len(holes(file.header, first)) == 0


def test_size_is_kept_by_the_last_level_alone():
    free = encode(picture(), num_gaussians=60, levels=2, steps=20)
    size = len(free.data) - 40
    tight = encode(picture(), size=size, levels=2, steps=20)
    assert len(tight.data) <= size
    assert len(tight.report["levels"]) == 2


@pytest.mark.parametrize("coarser", [1e-3, 0.5])
def test_levels_outlast_a_budget_that_shrinks(monkeypatch, coarser):
    """However few Gaussians reviews leave, each level has one."""
    monkeypatch.setattr(targets, "_LATE_COARSER", coarser)
    result = encode(picture(), size=700, levels=3, steps=40)
    assert len(result.report["levels"]) == 3
    assert result.report["bytes"] <= 700


def test_plain_coding_and_a_psnr_target():
    found = encode(picture(), psnr=24.0, levels=2, steps=60, coding="plain").report
    assert found["psnr"] >= 24.0
    assert len(found["levels"]) == 2


# -- the fit


def small_fit(count: int = 3) -> tuple[levels.LevelBackend, Fit, Model]:
    backend = levels.LevelBackend([TorchBackend() for _ in range(count)])
    target = torch.from_numpy(np.ascontiguousarray(picture()[:24, :24].transpose(2, 0, 1)))
    fit = levels.LevelledFit(target, 12, Recipe(steps=10, growth=False, relocate=0.3), backend)
    backend.fit = fit
    return backend, fit, fit.state.model


def weight(end: int) -> float:
    """Of the prefixes of 4 and of 8 Gaussians."""
    return levels.WEIGHT * 2**0.75 * (1 + levels.TILT if end == 4 else 1 - levels.TILT)


def test_gradient_is_the_wholes_and_a_prefixs_in_turn():
    backend, fit, model = small_fit()
    plain, weights = TorchBackend(), LossWeights(0.0, 1.0, 0.0)
    whole = plain.step(model, fit.options, fit.target, weights)
    for end in (4, 8, 4):
        found = backend.step(model, fit.options, fit.target, weights)
        part = plain.step(model.map(lambda t, e=end: t[:e]), fit.options, fit.target, weights)
        assert found.loss == pytest.approx(whole.loss)
        for grad, all_, few in zip(found.grads, whole.grads, part.grads, strict=True):
            expected = all_.clone()
            expected[:end] += weight(end) * whole.loss / part.loss * few
            assert torch.allclose(grad, expected, rtol=1e-4, atol=1e-7)


def test_prefixes_that_are_all_there_is_are_left_out():
    backend, _, model = small_fit()
    assert backend.ends(model) == [4, 8, 12]
    assert backend.ends(model.map(lambda t: t[:8])) == [4, 8]
    assert backend.ends(model.map(lambda t: t[:3])) == [3]


def test_a_prefix_would_miss_its_gaussians_too():
    backend, fit, model = small_fit()
    found = backend.removal_costs(model, fit.options, fit.target)
    plain = TorchBackend()
    whole = plain.removal_costs(model, fit.options, fit.target)
    prefix = model.map(lambda t: t[:8])
    errors = [plain.measure(plain.render(m, fit.options), fit.target, False)[0] for m in (model, prefix)]
    cost = plain.removal_costs(prefix, fit.options, fit.target)[4:] * weight(8) * errors[0] / errors[1] / 2
    assert torch.allclose(found[4:8], whole[4:8] + cost, rtol=1e-4)
    assert torch.all(found[:4] != whole[:4])
    assert torch.allclose(found[8:], whole[8:])


def test_every_level_moves_what_it_misses_least_to_where_its_pictures_err():
    backend, fit, model = small_fit()
    costs = fit.removal_costs(model)
    least = [4 * level + int(costs[4 * level : 4 * level + 4].argmin()) for level in range(3)]
    before = model.clone()
    drawn = []
    fit._where = lambda error, n: drawn.append(error[0]) or torch.full((1, n, 2), 3.5, dtype=torch.float64)
    assert fit.relocate() == 3
    moved = (fit.state.model.position != before.position).any(1).nonzero().squeeze(1).tolist()
    assert moved == least
    errors = []
    for _, worth, image in backend.pictures(before, fit.options):
        error = fit._error(image)[0][0]
        errors.append(worth * error.square() / error.square().mean())
    for level, found in enumerate(drawn):
        assert torch.allclose(found, sum(errors[level:]).sqrt(), rtol=1e-4)


def test_fewer_gaussians_stay_in_their_levels():
    for n in range(1, 9):
        _, fit, model = small_fit()
        costs = fit.removal_costs(model)
        before = [model.position[4 * level : 4 * level + 4].clone() for level in range(3)]
        least = [costs[4 * level : 4 * level + 4].argsort() for level in range(3)]
        fit.shrink(12 - n)
        ends = [0, *levels.ends_of(12 - n, 3)]
        for level in range(3):
            stay = fit.state.model.position[ends[level] : ends[level + 1]]
            kept = least[level][4 - len(stay) :].sort().values
            assert torch.equal(stay, before[level][kept]), (n, level)


def test_what_is_missed_is_judged_before_levels_end_elsewhere(monkeypatch):
    """A fit that leaves Gaussians out looks at the prefixes that it has fitted."""
    backend, fit, model = small_fit()
    fit.best = model
    seen = []
    monkeypatch.setattr(fit, "removal_costs", lambda m: seen.append(backend.ends(m)) or torch.arange(12.0))
    monkeypatch.setattr(fit, "run", lambda until: None)
    fit.extend(-6, 1)
    assert seen == [[4, 8, 12]]
    assert backend.ends(fit.state.model) == [2, 4, 6]


def test_levels_share_the_room_of_their_steps():
    backend, _, _ = small_fit()
    assert len({id(b.scratch) for b in backend._backends}) == 1


def test_the_first_level_is_no_part_of_the_picture():
    """Of a picture with as much to draw everywhere its Gaussians lie above and below its middle."""
    backend = levels.LevelBackend([TorchBackend() for _ in range(8)])
    stripes = 0.5 + 0.4 * torch.sin(torch.arange(64.0))[:, None].expand(3, 64, 64)
    fit = levels.LevelledFit(stripes, 400, Recipe(steps=10), backend)
    y = fit.state.model.position[:50, 1]
    assert 0.3 < float((y > 32).float().mean()) < 0.7
    assert float(Fit(stripes, 400, Recipe(steps=10), TorchBackend()).state.model.position[:50, 1].max()) < 40


@pytest.mark.parametrize(("count", "steps"), [(1, 100), (2, 150), (5, 250), (16, 250)])
def test_more_levels_take_more_steps(count, steps):
    assert levels.steps_of(100, count) == steps


@pytest.mark.skipif(not kernels.available(), reason="needs the compiled kernels")
def test_sensitivities_are_those_of_all_levels():
    from igs.encoder.raster.kernel_backend import KernelBackend
    from igs.encoder.rounding import sensitivity

    _backend, fit, model = small_fit()
    joint = levels.LevelBackend([KernelBackend() for _ in range(3)])
    joint.fit = fit
    plain, shape = KernelBackend(), tuple(fit.target.shape)

    def sizes(pullback):
        blocks = sensitivity.sensitivities(pullback, shape, 3, 400)
        return np.concatenate([np.einsum("nii->ni", blocks.form), blocks.value[:, None]], axis=1)

    found = sizes(joint.pullback(model, fit.options))
    expected, errors = 0.0, []
    for end in (12, 4, 8):
        part = model.map(lambda t, e=end: t[:e].contiguous())
        errors.append(plain.measure(plain.render(part, fit.options), fit.target, False)[0])
        share = 1.0 if end == 12 else weight(end) * errors[0] / errors[-1] / 2
        one = sizes(plain.pullback(part, fit.options))
        expected = expected + np.pad(one * share, ((0, 12 - end), (0, 0)))
    # An average over 400 random pictures: a few per cent.
    seen = expected > 0  # round Gaussians have no angle
    assert np.median(np.abs(found[seen] / expected[seen] - 1)) < 0.1


# -- a file that grows


def test_refresh_follows_a_growing_file(encoded, tmp_path):
    ends = [level["bytes"] for level in encoded.report["levels"]]
    path = tmp_path / "growing.igs"
    path.write_bytes(encoded.data[: ends[0] + 3])
    with pytest.raises(InvalidFile, match="E_TRUNCATED"):
        igs.open(path)
    with igs.open(path, allow_partial=True) as im, igs.open(encoded.data) as whole:
        assert len(im.levels) == 1
        assert im.num_levels == 3
        assert np.array_equal(im.decode(), whole.decode(level=0))
        with path.open("ab") as out:
            out.write(encoded.data[ends[0] + 3 : ends[1]])
        assert len(im.levels) == 1
        assert im.refresh() == 2
        assert np.array_equal(im.decode(), whole.decode(level=1))
        with path.open("ab") as out:
            out.write(encoded.data[ends[1] :])
        assert im.refresh() == 3
        assert not im.partial
        assert np.array_equal(im.decode(), whole.decode())
        assert np.array_equal(im.decode(level=0), whole.decode(level=0))
        assert np.array_equal(im.pixel(3, 4), whole.pixel(3, 4))
        with path.open("ab") as out:
            out.write(b"x")
        with pytest.raises(InvalidFile, match="E_TRAILING"):
            im.refresh()


def test_refresh_refuses_a_file_that_shrank(encoded, tmp_path):
    path = tmp_path / "shrinking.igs"
    path.write_bytes(encoded.data)
    with igs.open(path) as im:
        path.write_bytes(encoded.data[:-1])
        with pytest.raises(InvalidFile, match="E_TRUNCATED"):
            im.refresh()
    with pytest.raises(UsageError, match="closed"):
        im.refresh()


# -- metadata


def test_psnr_takes_the_same_room_whatever_it_is():
    sections = {"json": json.dumps({"title": "x", "level_psnr": [1]}).encode(), "soft": b"s"}
    lengths = set()
    for psnr in ([None, None], [9.876, 31.0], [123.0, 5.0], [-9.5, -31.4], [-9.996, -0.001]):
        found = with_level_psnr(sections, psnr)
        lengths.add(len(found["json"]))
        assert found["soft"] == b"s"
        assert json.loads(found["json"])["title"] == "x"
    assert len(lengths) == 1
    assert json.loads(with_level_psnr({}, [9.876, 31])["json"]) == {"level_psnr": [9.88, 31.0]}
    with pytest.raises(UsageError, match="JSON object"):
        with_level_psnr({"json": b"[1"}, [1.0])


@pytest.mark.parametrize("text", ["{}", '{"level_psnr": 3}', '{"level_psnr": [1]}', '{"level_psnr": ["a", 1, 2]}'])
def test_info_takes_metadata_as_a_hint(encoded, text):
    from igs.format import describe, document, open_file

    data = document.read(encoded.data).with_sections({"json": text.encode()}).to_bytes()
    with open_file(data) as file:
        assert [level["psnr"] for level in describe(file)["levels"]] == [None] * 3


def test_info_lists_the_levels(encoded):
    from igs.format import describe, describe_text, open_file

    with open_file(encoded.data) as file:
        rows, text = describe(file)["levels"], describe_text(file)
    assert [row["end"] for row in rows] == [level["bytes"] for level in encoded.report["levels"]]
    assert [row["num_gaussians"] for row in rows] == [16, 16, 16]
    assert [row["psnr"] for row in rows] == [round(level["psnr"], 2) for level in encoded.report["levels"]]
    assert f"level 0: 16 Gaussians, to the end of it {rows[0]['end']} bytes" in text
