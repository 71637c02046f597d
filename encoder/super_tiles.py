"""A large picture in super-tiles: squares that are fitted one after the other, for one file, in the memory of one.

A square is fitted in its window, which has a margin around it. Gaussians of neighbours that are fitted already are in
the picture there and stay as they are (raster/surrounded.py); where a neighbour is still to come the fit covers the
margin by itself, and what lies there is left out afterwards. So there are no seams: each square is fitted to what will
be around it, or is. Squares come in four turns, those of a turn having neither side nor corner in common.

How many Gaussians a square gets is told by a quick fit of the reduced picture: as many as end up there. The coarseness
of the lattice follows from the error of all squares; then they are rounded, each between all others.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igs.encoder import rate
from igs.encoder.fitting.fence import BOTTOM, LEFT, RIGHT, TOP, Fence
from igs.encoder.fitting.fit import Fit
from igs.encoder.job import Follow, Job
from igs.encoder.loading import downsample
from igs.encoder.loading.source import SourceImage
from igs.encoder.options import EncodeOptions, Progress
from igs.encoder.progress import OneOfSeveral
from igs.encoder.raster.model import Model
from igs.encoder.raster.rescale import Rescaled
from igs.encoder.raster.surrounded import SurroundedBackend
from igs.encoder.recipe import Recipe
from igs.encoder.tile_checkpoint import Checkpoints, State
from igs.encoder.tile_plan import Box, Budget, Probe, held, squares
from igs.format.errors import UsageError

# Pixels above which a picture is fitted in super-tiles without being asked to, and their side then.
AUTO_PIXELS, AUTO_SIDE = 2**26, 4096
_LEAST_GAUSSIANS = 64  # of a square, on the mean; else squares are larger
# Times the mean distance of Gaussians, within these, pixels. 2, 4 and 8 gave 41.68, 45.59 and 45.41 dB (canopee at 0.1
# bpp, squares of 1024, effort 3), 36.53, 36.82 and 36.85 (1024² of antelope_canyon at 0.3, squares of 512).
_MARGIN, _MARGINS = 4.0, (32, 256)
_PROBE_PIXELS, _PROBE_EFFORT = 2**20, 1
_PROBE_SHARE, _PROBE_DENSITY = 1 / 4, 1 / 64  # of the Gaussians; per pixel of the reduced picture, at most


def side_of(options: EncodeOptions, source: SourceImage, recipe: Recipe) -> int | None:
    """The side of a picture's super-tiles; None: it is fitted as a whole.

    Raises UsageError where they were asked for and can't be.
    """
    asked = options.super_tile
    if asked is not None and max(source.width, source.height) <= asked:
        return None
    problem = _problem(options, recipe)
    if asked is None:
        return AUTO_SIDE if problem is None and source.width * source.height > AUTO_PIXELS else None
    if problem is not None:
        raise UsageError(f"super_tile: expected {problem}")
    return asked


def _problem(options: EncodeOptions, recipe: Recipe) -> str | None:
    """What stands in the way of super-tiles: what was expected and found."""
    o = options
    for name, none in (("levels", 1), ("downsample", 1), ("saliency_weight", 0.0), ("roi", ())):
        if getattr(o, name) != none:
            return f"no {name} beside it, found {getattr(o, name)}"
    for name in ("psnr", "render_every", "saliency_map", "saliency_network"):
        if getattr(o, name) is not None:
            return f"no {name} beside it, found one"
    if o.on_step is not None:
        return "nothing that sees its steps beside it, found on_step, or --report, --film or --render-growth"
    if o.parts not in ("auto", "one"):
        return f"parts auto or one beside it, found {o.parts}"
    if recipe.coding != "lattice":
        return f"coding lattice beside it, found {recipe.coding}"
    return None


class SuperTiledJob(Job):
    """A job whose fit is many: one for each square."""

    squares: list[Box]  # in the order they are fitted in
    _margin: int  # pixels
    _state: State

    def fitted(self, num_gaussians: int, limit: float | None, follow: Follow) -> tuple[Fit, Model]:
        """The fit of the last square, which knows the error of all, and all Gaussians."""
        self._lay_out(num_gaussians)
        o, counted = self.options, self.options.num_gaussians is not None
        payload = None if limit is None else limit - rate.head_bytes(self.recipe, self.groups, self.sections)
        budget = Budget(self.recipe, self.groups, num_gaussians, counted, payload)
        keeps, fit, started = self._checkpoints(num_gaussians, limit), None, time.perf_counter()
        if o.resume is not None:
            self._state = keeps.restore(self.squares, budget, o.resume)
        else:
            self._state = State(self._probe(num_gaussians), budget)
        for square in self.squares[len(self._state.squares) :]:
            if fit is not None and o.checkpoint is not None:  # of all but the last: what follows needs a fit
                keeps.save(self._state, o.checkpoint)
            fit = None  # the one before lets go of its picture
            fit = self._fit_square(square, follow, started)
        assert fit is not None
        fit.error_of_file = self._state.error / self.pixels, 0.0
        if counted:
            self._leave_out(fit, sum(map(len, self._state.models)) - num_gaussians)
        return fit, Model.joined(self._state.models)

    def _leave_out(self, fit: Fit, count: int) -> None:
        """Go on without so many Gaussians: each square has one at least, of which there may be more than asked for."""
        if count <= 0:
            return
        models = self._state.models
        kept = torch.zeros(sum(map(len, models)), dtype=torch.bool)
        kept[self.without_idle(Model.joined(models), fit, count)] = True
        self._state.models = [m.rows(k) for m, k in zip(models, kept.split([len(m) for m in models]), strict=True)]

    @property
    def steps(self) -> int:
        """Of all squares."""
        return self._state.steps

    def _checkpoints(self, num_gaussians: int, limit: float | None) -> Checkpoints:
        features = self.channels + 2 * (self.recipe.primitive == "gradient")
        about = {
            "seed": self.options.seed,
            "side of super-tiles": max(max(square.width, square.height) for square in self.squares),
            "number of Gaussians": num_gaussians,
            "size": limit,
            "quality": None if limit or self.options.num_gaussians else rate.quality_of(self.options),
            "weighting of groups": list(self.gains.finer),
            "way of storing groups": [str(group) for group in self.groups],
        }
        return Checkpoints(self.source, self.recipe, features, about)

    def _fit_square(self, square: Box, follow: Follow, started: float) -> Fit:
        done, window, tell = self._state, self._window(square), self.options.on_progress
        probe, budget = done.probe, done.budget
        if tell is not None:
            tell = OneOfSeveral(tell, done.steps, len(self.squares) - len(done.squares), started)
        job = self._part(window, self._around(window, done.models), tell)
        job.pixels = window.pixels - sum(window.overlap(box) for box in done.squares)
        share = probe.share(window, done.squares)
        job.fewest = math.ceil(share * probe.left(done.squares) * self.fewest)
        within = budget.bytes_for(share)
        n = budget.gaussians_for(share, probe.left(done.squares))
        fit = job.fit(n)
        # Errors of squares to come are taken to be to this one's as in the quick fit.
        rest = probe.error(self.squares[len(done.squares) :]) / probe.error([window])
        fit.error_of_file = done.error / self.pixels, (1 - done.pixels / self.pixels) * rest
        fit.interlace.pixels = self.pixels
        fit.fence = self._fence(window, square, done.squares)
        follow(job, fit, within)
        model = fit.run()
        there = self._there(window).model(model)
        # What reaches the square where no other window is stays, too: nobody could make up for it there.
        kept = torch.from_numpy(held(self._inside(there), [*done.squares, square])) | _near(
            there, self._unseen(square), self.recipe.reach2
        )
        done.add(square, there.rows(kept), fit)
        size = 0 if within is None else job.sizes(model, fit)(fit.coarseness)
        budget.spend(within, size, int(kept.sum()), len(model))
        return fit

    def freeze(self, fit: Fit, coarseness: float, rounds: int | None = None, file: Rescaled | None = None) -> Model:
        """All Gaussians at values that a lattice of this coarseness holds, square by square."""
        models = list(self._state.models)
        for k, square in enumerate(self.squares):
            if len(models[k]) == 0:
                continue
            window = self._window(square)
            there = self._there(window)
            job = self._part(window, self._around(window, models[:k] + models[k + 1 :]))
            job.recipe = dataclasses.replace(job.recipe, init="random", growth=False)  # of a start that isn't used
            part = job.fit(len(models[k]))
            part.best = there.back(window.width, window.height).model(models[k])
            models[k] = there.model(job.freeze(part, coarseness, rounds, there))
        return Model.joined(models)

    def idle(self, model: Model, fit: Fit) -> Tensor:
        """Gaussians in the order in which they would be missed, the least first."""
        costs = torch.zeros(len(model), dtype=torch.float64)
        options = fit.options
        if options.blend == "topk":
            mean = self.gains.weighted(torch.from_numpy(self.mean)[:, None, None])
            options = dataclasses.replace(options, background=tuple(mean.flatten().tolist()))
        for square in self.squares:
            rows = _near(model, square, self.recipe.reach2).nonzero().squeeze(1)
            if len(rows) == 0:
                continue
            near = self._there(square).back(square.width, square.height).model(model.rows(rows))
            here = dataclasses.replace(options, width=square.width, height=square.height)
            target = self._part(square).target.to(self.backend.place)
            costs[rows] += self.backend.removal_costs(near, here, target).cpu().double()
        return torch.argsort(costs, stable=True)

    # -- one square

    def _lay_out(self, num_gaussians: int) -> None:
        """Choose the squares, not too small for so many Gaussians, and the width of their margins."""
        width, height = self.source.width, self.source.height
        side = side_of(self.options, self.source, self.recipe)
        assert side is not None
        self.squares = squares(width, height, side)
        while len(self.squares) > max(1, num_gaussians // _LEAST_GAUSSIANS):
            side *= 2
            self.squares = squares(width, height, side)
        if side != side_of(self.options, self.source, self.recipe):
            self.warn(
                f"super_tile: {num_gaussians} Gaussians are few: {len(self.squares)} squares, of at most {side} pixels"
            )
        spacing = math.sqrt(self.pixels / num_gaussians)
        self._margin = min(max(round(_MARGIN * spacing), _MARGINS[0]), _MARGINS[1], side // 2)

    def _window(self, square: Box) -> Box:
        return square.grown(self._margin, self.source.width, self.source.height)

    def _unseen(self, square: Box) -> Box:
        """What of a square no window of others shows."""
        width, height, margin = self.source.width, self.source.height, self._margin
        return Box(
            square.left + margin * (square.left > 0),
            square.top + margin * (square.top > 0),
            square.right - margin * (square.right < width),
            square.bottom - margin * (square.bottom < height),
        )

    def _fence(self, window: Box, square: Box, done: Sequence[Box]) -> Fence:
        """What of the finished squares lies beyond a window.

        Who reached any of them that is farther away than two squares would reach one that isn't on the way.
        """
        sides, corners, far = set(), set(), []
        for box in done:
            columns, rows = abs(box.left - square.left) / square.width, abs(box.top - square.top) / square.height
            if 1.5 < max(columns, rows) < 2.5:
                left, top = window.left, window.top
                far.append((box.left - left, box.top - top, box.right - left, box.bottom - top))
            x = {square.left: LEFT}.get(box.right, {square.right: RIGHT}.get(box.left))
            y = {square.top: TOP}.get(box.bottom, {square.bottom: BOTTOM}.get(box.top))
            if x is not None and box.top == square.top:
                sides.add(x)
            elif y is not None and box.left == square.left:
                sides.add(y)
            elif x is not None and y is not None:
                corners.add((x, y))
        free = frozenset((x, y) for x, y in corners if x not in sides and y not in sides)
        size = window.width, window.height
        return Fence(*size, self.recipe.reach2, frozenset(sides), free, self._margin, tuple(far))

    def _there(self, box: Box) -> Rescaled:
        """The picture's coordinates, from those of a part of it."""
        return Rescaled(1.0, self.source.width, self.source.height, -float(box.left), -float(box.top))

    def _inside(self, model: Model) -> NDArray[np.float64]:
        """Means [N, 2], those outside the picture at its border."""
        size = np.array([self.source.width, self.source.height], np.float64)
        return np.clip(model.position.double().numpy(), 0, size - 0.5)

    def _part(
        self, box: Box, around: Model | None = None, on_progress: Callable[[Progress], None] | None = None
    ) -> Job:
        """The job of a part of the picture. around: Gaussians that are there already, in the part's pixels."""
        values = np.ascontiguousarray(self.source.values[box.top : box.bottom, box.left : box.right])
        source = dataclasses.replace(self.source, values=values, sections={})
        options = dataclasses.replace(
            self.options, sections={}, on_warning=_ignore, on_progress=on_progress, checkpoint=None, resume=None
        )
        backend = self.backend if around is None else SurroundedBackend(self.backend, around)
        return Job(source, self.recipe, options, backend, source, self.worth)

    def _around(self, window: Box, models: Sequence[Model]) -> Model | None:
        """Of these models the Gaussians that reach into a window, in its pixels."""
        near = [model.rows(_near(model, window, self.recipe.reach2)) for model in models]
        if not any(map(len, near)):
            return None
        return self._there(window).back(window.width, window.height).model(Model.joined(near))

    def _probe(self, num_gaussians: int) -> Probe:
        """A quick fit of the reduced picture."""
        r = 1
        while self.pixels > _PROBE_PIXELS * r * r and 2 * r <= min(self.source.width, self.source.height):
            r *= 2
        source = dataclasses.replace(downsample.reduced(self.source, r), sections={})
        given = {name: value for name, value in self.options.overrides.items() if name != "steps"}
        options = dataclasses.replace(
            self.options, effort=_PROBE_EFFORT, overrides=given, log_every=2**31, sections={},
            on_progress=None, on_warning=_ignore, checkpoint=None, resume=None,
        )  # fmt: skip
        recipe = options.recipe()
        recipe = dataclasses.replace(recipe, steps=min(recipe.steps, self.recipe.steps))
        most = max(1, int(_PROBE_DENSITY * source.width * source.height))
        n = min(max(1, int(_PROBE_SHARE * num_gaussians)), most)
        fit = Job(source, recipe, options, self.backend, source).fit(n)
        model = fit.run()
        image = self.backend.render(model, fit.options)
        errors = (image - fit.target.to(image.device)).square().mean(dim=0).double().cpu().numpy()
        return Probe(r, errors, self._inside(Rescaled(float(r), 0, 0).model(model)), self.squares)


def _near(model: Model, box: Box, reach2: float) -> Tensor:
    """Which Gaussians may reach into a box, [N]."""
    reach = math.sqrt(reach2) * model.sigmas().amax(dim=1)
    x, y = model.position.unbind(1)
    across = (x + reach > box.left) & (x - reach < box.right)
    return across & (y + reach > box.top) & (y - reach < box.bottom)


def _ignore(message: str) -> None:
    """Say nothing: it was said of the whole picture."""
