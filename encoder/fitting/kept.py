"""Whether the file of a checkpoint is one that a fit can go on from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from igs.encoder.fitting.archive import Archive
from igs.encoder.raster.model import Model
from igs.encoder.recipe import is_number
from igs.encoder.rounding.learned import Rounding, is_learned
from igs.format.errors import UsageError

if TYPE_CHECKING:
    from igs.encoder.fitting.fit import Fit

KIND = "a fit of the whole picture"


class Kept:
    """An archive with the names that ``checkpoint.save`` gives its arrays and scalars."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.arrays, self.scalars = archive, archive.arrays, archive.scalars

    def check(self, fit: Fit, about: dict[str, Any]) -> None:
        """Raise UsageError for a checkpoint of another fit, InputError for one of another picture and for what is none.

        about: of this fit, what the recipe doesn't say.
        """
        self.archive.check_same(KIND, list(fit.target.shape), about, fit.recipe)
        self._check_place(fit)
        self._check_scalars(fit)
        self._check_arrays(fit)

    def _check_place(self, fit: Fit) -> None:
        """Of as many Gaussians, on the same kind of device."""
        path, expect = self.archive.path, self.archive.expect
        asked, device, here = self.scalars.get("asked"), self.scalars.get("device"), fit.backend.place.type
        expect("asked", is_number(asked, whole=True), "a whole number", asked)
        if asked != fit.asked:
            raise UsageError(f"{path}: checkpoint of a fit with {asked} Gaussians, this one has {fit.asked}")
        expect("device", isinstance(device, str), "a name", device)
        if fit.noise is not None and device != here:  # their generators differ
            raise UsageError(f"{path}: checkpoint of a fit on {device}, this one is on {here}: give --device {device}")

    def _check_scalars(self, fit: Fit) -> None:
        """Kinds and ranges."""
        steps, get = fit.recipe.steps, self.scalars.get

        def whole(value: Any, high: int) -> bool:
            return is_number(value, whole=True) and 0 <= value <= high

        def share(value: Any) -> bool:
            return is_number(value) and 0 < value <= 1

        def numbers(value: Any, count: int) -> bool:
            return isinstance(value, list) and len(value) == count and all(map(is_number, value))

        step, noise = get("step"), get("before_noise")
        last: Any = get("last")
        known = noise is None or (fit.noise is not None and numbers(noise, 2) and all(0 <= v < math.inf for v in noise))
        measured = isinstance(last, list) and len(last) == 3 and numbers(last[:2], 2) and not last[1] < 0
        measured = measured and (last[2] is None or is_number(last[2]))
        for name, ok, expected in (
            ("step", whole(step, steps), f"a whole number of 0 to {steps}"),
            ("num_gaussians", whole(get("num_gaussians"), 2**32), "a whole number"),
            ("decays", whole(get("decays"), steps), "a whole number"),
            ("plateau_step", whole(get("plateau_step"), steps), "a whole number"),
            ("plateau_best", numbers(get("plateau_best"), 2), "two numbers"),
            ("lr_factor", share(get("lr_factor")), "a number above 0, up to 1"),
            ("caution", share(get("caution")), "a number above 0, up to 1"),
            ("best_loss", is_number(get("best_loss")), "a number"),
            ("quantized", isinstance(get("quantized"), bool), "true or false"),
            ("before_move", get("before_move") is None or is_number(get("before_move")), "a number or nothing"),
            ("before_noise", known, "two numbers, of a fit with noise, or nothing"),
            ("last", measured if step else last is None, "loss and errors, nothing before the first step"),
            ("rng", isinstance(get("rng"), dict), "values by name"),
        ):
            self.archive.expect(name, ok, expected, get(name))

    def _check_arrays(self, fit: Fit) -> None:
        """Kinds, shapes and, where a fit has nothing else, finite values. All Gaussians are as many: the state's."""
        n = self.archive.rows_of("position")
        self.archive.expect("position", n > 0, "one Gaussian or more", "none")
        self._check_state(fit, n, "", finite=True)
        if self.scalars["before_move"] is not None:
            self._check_state(fit, n, "before_move_", finite=False)
        if self.scalars["before_noise"] is not None:
            self._check_model(fit, n, "before_noise_")
        if "best_position" in self.arrays:
            self._check_model(fit, n, "best_")
        if fit.noise is not None:
            self.archive.check_array("noise", np.uint8, tuple(fit.noise.generator.get_state().shape))
        if self.archive.has("rounding_"):
            self.archive.expect("rounding", is_learned(fit.recipe), "nothing, as nothing is learned", "quantisers")
            tensors = (torch.from_numpy(self.arrays[name].copy()) for name in Model.NAMES)
            own = Rounding(Model.of(tensors, fit.recipe.scale_map), fit.recipe, fit.seed).state()
            for prefix in filter(self.archive.has, ("rounding_", "best_rounding_")):
                for name, t in own.items():
                    self.archive.check_array(f"{prefix}{name}", t.numpy().dtype, tuple(t.shape), finite=True)

    def _check_state(self, fit: Fit, n: int, prefix: str, finite: bool) -> None:
        """A model of n Gaussians with its moments and ages."""
        self._check_model(fit, n, prefix, finite)
        for moment in ("m_", "v_"):  # infinite ones are of a large gradient, after which nothing moves for a while
            self._check_model(fit, n, f"{prefix}{moment}", finite=False)
        name, step = f"{prefix}age", self.scalars["step"]
        self.archive.check_array(name, np.int32, (n,))
        low, high = int(self.arrays[name].min()), int(self.arrays[name].max())
        self.archive.expect(name, low >= 0 and high <= step, f"0 to {step}", f"{low} to {high}")

    def _check_model(self, fit: Fit, n: int, prefix: str, finite: bool = True) -> None:
        """Four arrays of n Gaussians that are, but for n, what the fit's own are."""
        for name, own in zip(Model.NAMES, fit.state.model.tensors(), strict=True):
            self.archive.check_array(f"{prefix}{name}", np.float32, (n, *own.shape[1:]), finite)
