"""A picture fitted square by square: one file, no seams, and the numbers that were asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from encoder_cases import picture, small
from raster_cases import close, scene
from tile_cases import CASES, HEIGHT, WIDTH, tile_picture

import igs
from igs.encoder import super_tiles, tile_plan
from igs.encoder.fitting.fence import BOTTOM, LEFT, RIGHT, Fence
from igs.encoder.fitting.interlace import Interlace
from igs.encoder.loading.deep import SizeLimits
from igs.encoder.loading.source import from_array
from igs.encoder.raster import shapes
from igs.encoder.raster.devices import choose_backend
from igs.encoder.raster.loss import LossWeights
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.rescale import Rescaled
from igs.encoder.raster.surrounded import SurroundedBackend, at
from igs.encoder.recipe import Recipe
from igs.format.errors import UsageError

BACKENDS = [True, False]  # the compiled kernels, or plain torch


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(64, 2000))
def test_squares_tile_the_picture(width: int, height: int, side: int) -> None:
    found = tile_plan.squares(width, height, side)
    assert sum(box.pixels for box in found) == width * height
    assert all(0 < box.width <= side and 0 < box.height <= side for box in found)
    assert all(box.left >= 0 and box.top >= 0 and box.right <= width and box.bottom <= height for box in found)
    assert len(set(found)) == len(found)
    widths, heights = ([getattr(box, name) for box in found] for name in ("width", "height"))
    assert max(widths) - min(widths) <= 1
    assert max(heights) - min(heights) <= 1


def test_squares_of_a_turn_do_not_touch() -> None:
    found = tile_plan.squares(500, 400, 100)
    columns, rows = sorted({b.left for b in found}), sorted({b.top for b in found})
    places = [(columns.index(b.left), rows.index(b.top)) for b in found]
    turns = [(x % 2, y % 2) for x, y in places]
    # Each turn is done before the next one begins, so that squares of one don't see each other.
    assert [t for k, t in enumerate(turns) if k == 0 or turns[k - 1] != t] == [(0, 0), (1, 1), (1, 0), (0, 1)]


def test_boxes() -> None:
    box = tile_plan.Box(10, 20, 30, 50)
    assert (box.width, box.height, box.pixels) == (20, 30, 600)
    assert box.grown(15, 40, 52) == (0, 5, 40, 52)
    assert box.overlap(tile_plan.Box(25, 40, 100, 100)) == 50
    assert box.overlap(tile_plan.Box(30, 20, 40, 50)) == 0
    points = np.array([[10.0, 20.0], [29.9, 49.9], [30.0, 20.0], [9.9, 30.0]])
    assert box.holds(points).tolist() == [True, True, False, False]


def _models(own: int, others: int) -> tuple[Model, Model, Model]:
    arrays = scene(own + others, 3, 70, 50, seed=3, spread=4.0)
    both = Model(arrays[0], arrays[1].log(), arrays[2], arrays[3], "log")
    return both, both.rows(torch.arange(own)), both.rows(torch.arange(own, own + others))


def _backend(kernels: bool) -> object:
    return choose_backend(igs.encoder.EncodeOptions(device="cpu"), Recipe(tiles=kernels), print)


@pytest.mark.parametrize("kernels", BACKENDS)
def test_what_is_around_is_drawn_and_gets_no_gradient(kernels: bool) -> None:
    backend = _backend(kernels)
    both, own, others = _models(20, 12)
    options, target = RasterOptions(70, 50), torch.rand(3, 50, 70, generator=torch.Generator().manual_seed(1))
    weights = LossWeights(0.0, 1.0, 0.0)
    surrounded = SurroundedBackend(backend, others)
    close([surrounded.render(own, options)], [backend.render(both, options)])
    found, expected = (b.step(m, options, target, weights) for b, m in ((surrounded, own), (backend, both)))
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    close(found.grads, [g[:20] for g in expected.grads])
    assert all(len(g) == 20 for g in found.grads)
    close([surrounded.removal_costs(own, options, target)], [backend.removal_costs(both, options, target)[:20]])
    pullbacks = [b.pullback(m, options) for b, m in ((surrounded, own), (backend, both))]
    if kernels:
        close(pullbacks[0](target), [g[:20] for g in pullbacks[1](target)])


def test_what_is_around_is_there_in_interlaced_steps_too() -> None:
    backend = _backend(True)
    both, own, others = _models(20, 12)
    options, target = RasterOptions(70, 50), torch.rand(3, 50, 70, generator=torch.Generator().manual_seed(1))
    interlace = Interlace(target, LossWeights(0.0, 1.0, 0.0))
    for turn in range(4):
        found = interlace.step(SurroundedBackend(backend, others), own, options, turn)
        expected = interlace.step(backend, both, options, turn)
        close(found.grads, [g[:20] for g in expected.grads])
    there = Rescaled(0.5, 35, 25, 3.0, 4.0)
    assert at(backend, there) is backend


def test_there_and_back() -> None:
    _, own, _ = _models(20, 12)
    there = Rescaled(1.0, 9000, 8000, -4321.0, -777.0)
    again = there.back(70, 50).model(there.model(own))
    close(again.tensors(), own.tensors(), tolerance=1e-3 / 50)  # float32 at 4321 pixels
    assert (there.model(own).position - own.position - torch.tensor([4321.0, 777.0])).abs().max() < 1e-3


def _extents(model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    """Half-widths and half-heights of the ellipses d² ≤ 25, by covariances."""
    s, angle = model.sigmas(), np.pi * model.rotation
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    covariance = turn @ torch.diag_embed(s * s) @ turn.transpose(1, 2)
    return 5 * covariance[:, 0, 0].sqrt(), 5 * covariance[:, 1, 1].sqrt()


@pytest.mark.parametrize("scale_map", ["log", "covariance"])
def test_a_fence_is_not_reached_beyond(scale_map: str) -> None:
    arrays = scene(300, 3, 120, 90, seed=5, spread=12.0)
    scale, rotation = shapes.parameters(arrays[1], arrays[2], scale_map)
    model = Model(arrays[0] * 1.2 - 10, scale, rotation, arrays[3], scale_map)
    before = model.clone()
    fence = Fence(120, 90, 25.0, frozenset({LEFT}), frozenset({(RIGHT, BOTTOM)}), 30)
    fence.hold(model)
    (x, y), (wide, high) = model.position.unbind(1), _extents(Model.of(_axes(model), "raw"))
    slack = 1e-3
    assert (x - wide > -slack).all()
    right, low = x + wide > 120 + slack, y + high > 90 + slack
    assert not (right & (y + high > 60 + slack)).any()
    assert not (low & (x + wide > 90 + slack)).any()
    assert right.any()  # beyond an open side, far from the corner
    moved = (model.position != before.position).any(1) | (model.scale != before.scale).any(1)
    assert 0 < moved.sum() < len(model)
    again = model.clone()
    fence.hold(again)
    close(again.tensors(), model.tensors())
    # Shapes that need not change don't: the same to the last bit.
    assert torch.equal(model.feature, before.feature)


def test_boxes_far_away_are_not_reached_either() -> None:
    arrays = scene(300, 3, 120, 90, seed=5, spread=40.0)
    model = Model(arrays[0] * 3 - 100, arrays[1].log(), arrays[2], arrays[3], "log")
    boxes = ((240, 0, 360, 90), (-240, -180, -120, -90))
    fence = Fence(120, 90, 25.0, frozenset(), frozenset(), 30, boxes)
    before = model.clone()
    fence.hold(model)
    (x, y), (wide, high) = model.position.unbind(1), _extents(model)
    assert (x >= -30).all() and (x <= 150).all() and (y >= -30).all() and (y <= 120).all()  # noqa: PT018
    for left, top, right, bottom in boxes:
        apart_x, apart_y = torch.maximum(left - x, x - right) - wide, torch.maximum(top - y, y - bottom) - high
        assert (torch.maximum(apart_x, apart_y) > -1e-2).all()
    shrunk = (model.scale < before.scale).any(1)
    assert 20 < shrunk.sum() < 280


def test_finished_squares_that_do_not_touch_are_fenced_off_where_nothing_is_on_the_way() -> None:
    options = igs.encoder.EncodeOptions(num_gaussians=2000, super_tile=100)
    source = from_array(picture(700, 100), SizeLimits(2**20, 2**10), None, "x")
    job = super_tiles.SuperTiledJob(source, options.recipe(), options, _backend(True), source)
    job._lay_out(2000)
    order = [box.left // 100 for box in job.squares]
    assert order == [0, 2, 4, 6, 1, 3, 5]

    def fence(number: int) -> Fence:
        square = job.squares[number]
        return job._fence(job._window(square), square, job.squares[:number])

    assert fence(0).boxes == ()
    left = 200 - job._margin  # of the window of the third column
    assert fence(1).boxes == ((-left, 0, 100 - left, 100),)
    assert fence(2).boxes == ((200 - (400 - job._margin), 0, 300 - (400 - job._margin), 100),)  # not the first again
    assert (fence(4).boxes, fence(4).sides) == ((), {LEFT, RIGHT})  # the fourth column is to come


def _axes(model: Model) -> tuple[torch.Tensor, ...]:
    scale, rotation, _ = shapes.axes(model.scale, model.rotation, model.scale_map)
    return model.position, model.sigmas() if model.scale_map == "log" else scale, rotation, model.feature


def test_no_fence_is_none() -> None:
    _, own, _ = _models(20, 12)
    before = own.clone()
    Fence(70, 50, 25.0, frozenset()).hold(own)
    assert all(torch.equal(a, b) for a, b in zip(own.tensors(), before.tensors(), strict=True))


def test_finished_squares_keep_what_no_other_window_shows(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a square is fitted, fits of others change its inside by nothing but float32's rounding."""
    pictures: dict[int, torch.Tensor] = {}
    original = super_tiles.SuperTiledJob._fit_square

    def fit_square(self: super_tiles.SuperTiledJob, *arguments: Any) -> Any:
        fit = original(self, *arguments)
        model = Model.joined(self._state.models)
        whole = self.backend.render(model, RasterOptions(WIDTH, HEIGHT, relative_reach2=9.0))
        for number, square in enumerate(self._state.squares):
            box = self._unseen(square)
            part = whole[:, box.top : box.bottom, box.left : box.right]
            assert part.numel() > 1000
            close([part], [pictures.setdefault(number, part)], tolerance=1e-4)
        return fit

    monkeypatch.setattr(super_tiles.SuperTiledJob, "_fit_square", fit_square)
    igs.encode(image, super_tile=100, steps=60, num_gaussians=900)
    assert len(pictures) == 6


# -- whole encodes


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return tile_picture()


@pytest.mark.parametrize("case", CASES)
def test_targets_hold_for_the_whole(image: np.ndarray, case: str) -> None:
    target = CASES[case]
    report = igs.encode(image, super_tile=100, steps=60, **target).report
    whole = igs.encode(image, steps=60, **target).report
    assert (report["super_tiles"], report["steps"]) == (6, 6 * whole["steps"])
    assert "super_tiles" not in whole
    assert (report["width"], report["height"]) == (WIDTH, HEIGHT)
    if case == "count":
        assert report["num_gaussians"] == 600
    elif case == "size":
        assert 0.9 * 4000 < report["bytes"] <= 4000
    elif case == "bpp":
        assert 0.45 < report["bpp"] <= 0.5
    else:  # both buy the same, from forecasts after few steps
        assert 0.5 < report["bytes"] / whole["bytes"] < 2
    # Squares of 100 with margins of a third of that, 60 steps: measured −2.6 to +1.0 dB.
    assert report["psnr"] > whole["psnr"] - 4


def test_there_are_no_seams(image: np.ndarray) -> None:
    data = igs.encode(image, super_tile=100, steps=100, num_gaussians=600).data
    with igs.open(data) as im:
        decoded = im.decode(dtype="float32")
    error = ((decoded - image / np.float32(255)) ** 2).mean(axis=2)
    seam = np.zeros((HEIGHT, WIDTH), bool)
    seam[:, 92:108] = seam[:, 192:208] = seam[92:108] = True
    assert error[seam].mean() < 2 * error[~seam].mean()


def test_the_same_every_time(image: np.ndarray) -> None:
    first, again, other = (
        igs.encode(image, super_tile=100, steps=20, num_gaussians=400, seed=seed).data for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("settings", [{}, {"primitive": "gradient"}, {"blend": "sum"}, {"tiles": False, "steps": 3}])
def test_other_pictures_and_models(channels: int, settings: dict) -> None:
    array = picture(150, 90, channels)
    encoded = igs.encode(array, super_tile=80, num_gaussians=256, **({"steps": 20} | settings))
    assert encoded.report["num_gaussians"] == 256
    assert encoded.report["super_tiles"] == 4
    with igs.open(encoded.data) as im:
        assert im.decode().shape == (90, 150, channels) if channels > 1 else (90, 150)


def test_a_stack_is_one_part_with_its_weights() -> None:
    maps = {"a": picture(150, 90), "b": picture(150, 90, seed=2)}
    encoded = igs.encode(maps, super_tile=80, steps=20, num_gaussians=256)
    assert [g["name"] for g in encoded.report["groups"]] == ["a", "b"]
    with pytest.raises(UsageError, match="super_tile: expected parts auto or one beside it, found each"):
        igs.encode(maps, super_tile=80, steps=20, num_gaussians=200, parts="each")


def test_parts_that_were_asked_for_have_them_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(super_tiles, "AUTO_PIXELS", 150 * 90 - 1)
    monkeypatch.setattr(super_tiles, "AUTO_SIDE", 80)
    made = []
    original = super_tiles.SuperTiledJob.fitted

    def fitted(self: super_tiles.SuperTiledJob, *arguments: Any) -> Any:
        found = original(self, *arguments)
        made.append((self.share, self.worth, len(self.squares)))
        return found

    monkeypatch.setattr(super_tiles.SuperTiledJob, "fitted", fitted)
    maps = {"a": picture(150, 90), "b": picture(150, 90, 1)}
    report = igs.encode(maps, steps=10, quality=100, parts="each").report
    assert len(report["parts"]) == 2
    assert made == [(0.5, 1.0, 4), (0.5, pytest.approx(4 / 3 / 4), 4)]


def test_few_gaussians_have_larger_squares(image: np.ndarray) -> None:
    for count, squares, side in ((130, 2, 256), (20, 1, 512)):
        said: list[str] = []
        found = igs.encode(image, super_tile=64, steps=10, num_gaussians=count, on_warning=said.append)
        assert found.report["super_tiles"] == squares
        assert said == [f"super_tile: {count} Gaussians are few: {squares} squares, of at most {side} pixels"]


def test_squares_that_deserve_nothing_take_nothing_away() -> None:
    """All there is to see is in one corner; each square has one Gaussian at least, and one colour needs few."""
    corner = np.full((256, 256, 3), 255, np.uint8)
    corner[:64, :64] = np.random.default_rng(1).integers(0, 256, (64, 64, 3))
    assert igs.encode(corner, super_tile=64, steps=10, num_gaussians=1024).report["num_gaussians"] == 1024
    flat = np.full((256, 256, 3), 90, np.uint8)
    found = igs.encode(flat, super_tile=64, steps=20, quality=100).report
    assert found["num_gaussians"] < 2 * igs.encode(flat, steps=20, quality=100).report["num_gaussians"]


def test_a_picture_no_larger_is_as_without(image: np.ndarray) -> None:
    plain, tiled = (igs.encode(image, steps=10, num_gaussians=50, super_tile=side) for side in (None, 300))
    assert plain.data == tiled.data
    assert "super_tiles" not in tiled.report


def test_large_pictures_have_them_without_being_asked(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(super_tiles, "AUTO_PIXELS", WIDTH * HEIGHT - 1)
    monkeypatch.setattr(super_tiles, "AUTO_SIDE", 150)
    assert igs.encode(image, steps=10, num_gaussians=300).report["super_tiles"] == 4
    # What they can't be had with comes first.
    assert "super_tiles" not in igs.encode(image, steps=10, num_gaussians=300, levels=2).report
    monkeypatch.setattr(super_tiles, "AUTO_PIXELS", WIDTH * HEIGHT)
    assert "super_tiles" not in igs.encode(image, steps=10, num_gaussians=300).report


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"levels": 2}, "no levels beside it, found 2"),
        ({"downsample": 2}, "no downsample beside it, found 2"),
        ({"roi": [(0, 0, 5, 5)]}, "no roi beside it"),
        ({"saliency_weight": 1}, "no saliency_weight beside it"),
        ({"psnr": 30, "num_gaussians": None}, "no psnr beside it"),
        ({"on_step": print}, "nothing that sees its steps beside it"),
        ({"preset": "gaussianimage"}, "coding lattice beside it, found plain"),
        ({"super_tile": 63}, "super_tile: expected a whole number of 64 to 65536, found 63"),
        ({"super_tile": True}, "super_tile: expected a whole number"),
    ],
)
def test_what_cannot_be_is_refused(image: np.ndarray, settings: dict, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        small(image, **({"super_tile": 100} | settings))


def test_progress_is_that_of_all(image: np.ndarray) -> None:
    seen = []
    igs.encode(image, super_tile=100, steps=20, num_gaussians=400, log_every=5, on_progress=seen.append)
    assert [p.step for p in seen] == sorted(p.step for p in seen)
    assert {p.steps for p in seen} == {120}
    assert seen[-1].step == 120


def test_the_probe_tells_where_gaussians_go(image: np.ndarray) -> None:
    options = igs.encoder.EncodeOptions(num_gaussians=600, overrides={"steps": 60}, super_tile=100)
    source = from_array(image, SizeLimits(2**20, 2**10), None, "x")
    job = super_tiles.SuperTiledJob(source, options.recipe(), options, _backend(True), source)
    job._lay_out(600)
    probe = job._probe(600)
    flat, busy = tile_plan.Box(0, 0, 80, 60), tile_plan.Box(200, 100, 280, 160)
    assert probe.share(flat, []) < probe.share(busy, []) / 2
    assert probe.error([flat]) < probe.error([busy])
    assert probe.left([]) == 1
    assert probe.left([tile_plan.Box(0, 0, WIDTH, HEIGHT)]) == 0
