"""The file of a checkpoint: arrays (npz) and scalars (JSON) by name, of which nothing is taken unchecked.

The kernels take arrays by their addresses and trust their kinds and shapes, so nothing is made of a file before all of
it is checked. What a fit itself can come to is let through: losses that are NaN, moments that are infinite.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igs.encoder.recipe import Recipe
from igs.format.errors import InputError, UsageError
from igs.format.whole_file import whole_file

_NONE = "not a checkpoint of this program, or a damaged one"


def write(path: Path, arrays: Mapping[str, NDArray[Any]], scalars: Mapping[str, Any], recipe: Recipe) -> None:
    """Write arrays, scalars and the recipe's fields, whole or not at all."""
    named = {key: str(value) for key, value in dataclasses.asdict(recipe).items()}
    text = json.dumps({**scalars, "recipe": named}).encode()
    every: dict[str, Any] = {**arrays, "scalars": np.frombuffer(text, np.uint8)}
    with whole_file(path) as file:
        np.savez(file, **every)


@dataclasses.dataclass
class Archive:
    """What such a file holds, unchecked."""

    path: Path
    arrays: dict[str, Any]
    scalars: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Archive:
        """Raises InputError where it can't be read."""
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
        found = cls(path, arrays, scalars)
        found.expect("scalars", isinstance(scalars, dict), "values by name", scalars)
        return found

    def has(self, prefix: str) -> bool:
        """Whether there are arrays whose names begin so."""
        return any(name.startswith(prefix) for name in self.arrays)

    def damaged(self, why: str) -> InputError:
        """The error for a file that holds something else."""
        return InputError(f"{self.path}: {_NONE}: {why}")

    def expect(self, name: str, ok: bool, expected: str, found: Any) -> None:
        """Raise InputError unless ok."""
        if not ok:
            raise self.damaged(f"expected {expected} in {name}, found {str(found)[:60]}")

    def check_same(self, kind: str, shape: list[int], about: Mapping[str, Any], recipe: Recipe) -> None:
        """Raise UsageError for a checkpoint of another fit, InputError for one of another picture.

        kind: of the fit. shape: of the picture. about: of the fit, what its recipe doesn't say, by the names that
        messages have for it.
        """
        get = self.scalars.get
        if get("kind") != kind:
            raise UsageError(f"{self.path}: expected a checkpoint of {kind}, found one of {str(get('kind'))[:60]}")
        if get("shape") != shape:
            raise InputError(f"{self.path}: checkpoint of a picture {str(get('shape'))[:60]}, this one is {shape}")
        for name in ("about", "recipe"):
            self.expect(name, isinstance(get(name), Mapping), "values by name", get(name))
        for name, value in about.items():
            self.expect("about", name in self.scalars["about"], name, "none")
            if self.scalars["about"][name] != value:
                raise UsageError(f"{self.path}: expected a checkpoint of this very fit, found one with another {name}")
        for name, value in dataclasses.asdict(recipe).items():
            found = self.scalars["recipe"].get(name)
            if found != str(value):
                raise UsageError(
                    f"{self.path}: checkpoint of a fit with {name} {str(found)[:60]}, this one has {value}"
                )

    def check_array(self, name: str, dtype: Any, shape: tuple[int, ...], finite: bool = False) -> NDArray[Any]:
        """An array. Raises InputError for one of another kind or shape, or, where they are to be finite, values."""
        array, kind = self.arrays.get(name), np.dtype(dtype)
        if not isinstance(array, np.ndarray):
            raise self.damaged(f"expected an array {name}, found none")
        ok = array.dtype == kind and array.shape == shape
        self.expect(name, ok, f"{kind} {list(shape)}", f"{array.dtype} {list(array.shape)}")
        self.expect(name, not finite or bool(np.isfinite(array).all()), "finite values", "NaN or infinity")
        return array

    def rows_of(self, name: str) -> int:
        """How many rows an array has; 0 where there is none."""
        array = self.arrays.get(name)
        return len(array) if isinstance(array, np.ndarray) and array.ndim else 0
