"""Where a fit in super-tiles stands, and the checkpoint (npz, arrays only) that holds it: written after each square."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from igs.encoder.fitting import archive
from igs.encoder.raster.model import Model
from igs.encoder.recipe import Recipe, is_number
from igs.encoder.tile_plan import Box, Budget, Probe

if TYPE_CHECKING:
    from igs.encoder.fitting.fit import Fit
    from igs.encoder.loading.source import SourceImage

KIND = "a fit in super-tiles"


@dataclasses.dataclass
class State:
    """What is known and done so far."""

    probe: Probe
    budget: Budget
    squares: list[Box] = dataclasses.field(default_factory=list)  # that are fitted
    models: list[Model] = dataclasses.field(default_factory=list)  # of each, in the picture's pixels
    steps: int = 0
    error: float = 0.0  # squared, summed over their pixels

    @property
    def pixels(self) -> int:
        """Of the squares."""
        return sum(square.pixels for square in self.squares)

    def add(self, square: Box, model: Model, fit: Fit) -> None:
        """Another square with its fit and what stays of it."""
        self.squares.append(square)
        self.models.append(model)
        self.steps += fit.state.step
        self.error += fit.last.mse * square.pixels


class Checkpoints:
    """Of one job: which may go on from one, and how they are written.

    about: of the fit, what neither picture nor recipe says, by the names that messages have for it.
    """

    def __init__(self, source: SourceImage, recipe: Recipe, features: int, about: dict[str, Any]) -> None:
        self._recipe, self._features = recipe, features
        self._shape = [source.channels, source.height, source.width]
        picture = zlib.crc32(np.ascontiguousarray(source.values).data)
        self._about = {"picture": picture, "depth of values": str(source.values.dtype), **about}

    def save(self, state: State, path: Path) -> None:
        """Write where the fit stands."""
        probe, budget = state.probe, state.budget
        arrays = {"probe_errors": probe.errors, "probe_means": probe.means}
        for number, model in enumerate(state.models):
            arrays |= {f"{number}_{n}": t.cpu().numpy() for n, t in zip(Model.NAMES, model.tensors(), strict=True)}
        scalars = {
            "kind": KIND,
            "shape": self._shape,
            "about": self._about,
            "done": len(state.squares),
            "steps": state.steps,
            "error": state.error,
            "left": budget.left,
            "bytes": budget.bytes,
            "reduction": probe.reduction,
        }
        archive.write(path, arrays, scalars, self._recipe)

    def restore(self, squares: Sequence[Box], budget: Budget, path: Path) -> State:
        """Where a fit of these squares stood. budget: as at the beginning; it is changed.

        Raises UsageError for a checkpoint of another fit, InputError for one of another picture and for what is none.
        """
        kept = archive.Archive.read(path)
        kept.check_same(KIND, self._shape, self._about, self._recipe)

        def whole(name: str, low: int, high: int) -> int:
            value: Any = kept.scalars.get(name)
            ok = is_number(value, whole=True) and low <= value <= high
            kept.expect(name, ok, f"a whole number of {low} to {high}", value)
            return int(value)

        def real(name: str, low: float) -> float:
            value: Any = kept.scalars.get(name)
            kept.expect(name, is_number(value) and low <= value < math.inf, f"a number, {low:g} or more", value)
            return float(value)

        r = whole("reduction", 1, 2**20)
        _, height, width = self._shape
        errors = kept.check_array("probe_errors", np.float64, (-(-height // r), -(-width // r)), finite=True)
        means = kept.check_array("probe_means", np.float64, (kept.rows_of("probe_means"), 2), finite=True)
        kept.expect("probe_errors", not bool((errors < 0).any()), "squares", "values below 0")
        state = State(Probe(r, errors, means, squares), budget)
        state.steps = whole("steps", 0, 2**62)
        state.error = real("error", 0.0)
        budget.left = whole("left", -(2**62), 2**62)
        if budget.bytes is not None:
            budget.bytes = real("bytes", -(2.0**62))
        for index in range(whole("done", 0, len(squares) - 1)):
            state.squares.append(squares[index])
            state.models.append(self._model(kept, index))
        return state

    def _model(self, kept: archive.Archive, index: int) -> Model:
        shapes: dict[str, tuple[int, ...]] = {
            "position": (2,), "scale": (2,), "rotation": (), "feature": (self._features,),
        }  # fmt: skip
        n = kept.rows_of(f"{index}_position")
        found = [kept.check_array(f"{index}_{m}", np.float32, (n, *shapes[m]), finite=True) for m in Model.NAMES]
        return Model.of((torch.from_numpy(t.copy()) for t in found), self._recipe.scale_map)
