"""What the file of a checkpoint holds, and whether it is what a fit can go on from.

The kernels take arrays by their addresses and trust their kinds and shapes, so nothing is made of a file before all of
it is checked. What a fit itself can come to is let through: losses that are NaN, moments that are infinite.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from igs.encoder.raster.model import Model
from igs.encoder.recipe import is_number
from igs.encoder.rounding.learned import Rounding, is_learned
from igs.format.errors import InputError, UsageError

if TYPE_CHECKING:
    from igs.encoder.fitting.fit import Fit

_NONE = "not a checkpoint of this program, or a damaged one"


@dataclasses.dataclass
class Kept:
    """Arrays and scalars by the names that ``checkpoint.save`` gives them."""

    path: Path
    arrays: dict[str, Any]
    scalars: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Kept:
        """What a file holds, unchecked. Raises InputError where it can't be read."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as f:
                arrays = {k: f[k] for k in f.files}
            scalars = json.loads(arrays["scalars"].tobytes())
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or _NONE}") from error
        except MemoryError as error:
            raise InputError(f"{path}: expected a checkpoint that fits into the memory, found a larger one") from error
        except Exception as error:  # damaged archives raise many types
            raise InputError(f"{path}: {_NONE}") from error
        return cls(path, arrays, scalars)

    def has(self, prefix: str) -> bool:
        """Whether there are arrays whose names begin so."""
        return any(name.startswith(prefix) for name in self.arrays)

    def damaged(self, why: str) -> InputError:
        """The error for a file that holds something else."""
        return InputError(f"{self.path}: {_NONE}: {why}")

    def check(self, fit: Fit, about: dict[str, Any]) -> None:
        """Raise UsageError for a checkpoint of another fit, InputError for one of another picture and for what is none.

        about: of this fit, what the recipe doesn't say.
        """
        self._expect("scalars", isinstance(self.scalars, dict), "values by name", self.scalars)
        self._check_same(fit, about)
        self._check_scalars(fit)
        self._check_arrays(fit)

    def _expect(self, name: str, ok: bool, expected: str, found: Any) -> None:
        if not ok:
            raise self.damaged(f"expected {expected} in {name}, found {str(found)[:60]}")

    def _check_same(self, fit: Fit, about: dict[str, Any]) -> None:
        get, shape = self.scalars.get, list(fit.target.shape)
        if get("shape") != shape:
            raise InputError(f"{self.path}: checkpoint of a picture {str(get('shape'))[:60]}, this one is {shape}")
        for name in ("about", "recipe"):
            self._expect(name, isinstance(get(name), Mapping), "values by name", get(name))
        for name, value in about.items():
            self._expect("about", name in self.scalars["about"], name, "none")
            if self.scalars["about"][name] != value:
                raise UsageError(f"{self.path}: expected a checkpoint of this very fit, found one with another {name}")
        for name, value in dataclasses.asdict(fit.recipe).items():
            found = self.scalars["recipe"].get(name)
            if found != str(value):
                raise UsageError(
                    f"{self.path}: checkpoint of a fit with {name} {str(found)[:60]}, this one has {value}"
                )
        asked, device, here = get("asked"), get("device"), fit.backend.place.type
        self._expect("asked", is_number(asked, whole=True), "a whole number", asked)
        if asked != fit.asked:
            raise UsageError(f"{self.path}: checkpoint of a fit with {asked} Gaussians, this one has {fit.asked}")
        self._expect("device", isinstance(device, str), "a name", device)
        if fit.noise is not None and device != here:  # their generators differ
            raise UsageError(
                f"{self.path}: checkpoint of a fit on {device}, this one is on {here}: give --device {device}"
            )

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
            self._expect(name, ok, expected, get(name))

    def _check_arrays(self, fit: Fit) -> None:
        """Kinds, shapes and, where a fit has nothing else, finite values. All Gaussians are as many: the state's."""
        position = self.arrays.get("position")
        n = len(position) if isinstance(position, np.ndarray) and position.ndim else 0
        self._expect("position", n > 0, "one Gaussian or more", "none")
        self._check_state(fit, n, "", finite=True)
        if self.scalars["before_move"] is not None:
            self._check_state(fit, n, "before_move_", finite=False)
        if self.scalars["before_noise"] is not None:
            self._check_model(fit, n, "before_noise_")
        if "best_position" in self.arrays:
            self._check_model(fit, n, "best_")
        if fit.noise is not None:
            self._check_array("noise", np.uint8, tuple(fit.noise.generator.get_state().shape))
        if self.has("rounding_"):
            self._expect("rounding", is_learned(fit.recipe), "nothing, as nothing is learned", "quantisers")
            tensors = (torch.from_numpy(self.arrays[name].copy()) for name in Model.NAMES)
            own = Rounding(Model.of(tensors, fit.recipe.scale_map), fit.recipe, fit.seed).state()
            for prefix in filter(self.has, ("rounding_", "best_rounding_")):
                for name, t in own.items():
                    self._check_array(f"{prefix}{name}", t.numpy().dtype, tuple(t.shape), finite=True)

    def _check_state(self, fit: Fit, n: int, prefix: str, finite: bool) -> None:
        """A model of n Gaussians with its moments and ages."""
        self._check_model(fit, n, prefix, finite)
        for moment in ("m_", "v_"):  # infinite ones are of a large gradient, after which nothing moves for a while
            self._check_model(fit, n, f"{prefix}{moment}", finite=False)
        name, step = f"{prefix}age", self.scalars["step"]
        self._check_array(name, np.int32, (n,))
        low, high = int(self.arrays[name].min()), int(self.arrays[name].max())
        self._expect(name, low >= 0 and high <= step, f"0 to {step}", f"{low} to {high}")

    def _check_model(self, fit: Fit, n: int, prefix: str, finite: bool = True) -> None:
        """Four arrays of n Gaussians that are, but for n, what the fit's own are."""
        for name, own in zip(Model.NAMES, fit.state.model.tensors(), strict=True):
            self._check_array(f"{prefix}{name}", np.float32, (n, *own.shape[1:]), finite)

    def _check_array(self, name: str, dtype: Any, shape: tuple[int, ...], finite: bool = False) -> None:
        array, kind = self.arrays.get(name), np.dtype(dtype)
        if not isinstance(array, np.ndarray):
            raise self.damaged(f"expected an array {name}, found none")
        ok = array.dtype == kind and array.shape == shape
        self._expect(name, ok, f"{kind} {list(shape)}", f"{array.dtype} {list(array.shape)}")
        self._expect(name, not finite or bool(np.isfinite(array).all()), "finite values", "NaN or infinity")
