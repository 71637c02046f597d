"""What a fit needs to go on, and the checkpoint (npz, arrays only) that holds it."""

from __future__ import annotations

import dataclasses
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from igs.encoder.fitting import archive
from igs.encoder.fitting.kept import KIND, Kept
from igs.encoder.raster.loss import StepResult
from igs.encoder.raster.model import Model
from igs.encoder.recipe import plain
from igs.encoder.rounding.learned import Rounding
from igs.format.errors import UsageError

if TYPE_CHECKING:
    from igs.encoder.fitting.fit import Fit


@dataclasses.dataclass
class FitState:
    """All that a fit needs to go on: what a checkpoint holds."""

    model: Model
    moments: list[tuple[Tensor, Tensor]]  # Adam's m and v, as Model.NAMES
    age: Tensor  # int32 [N]
    step: int = 0
    lr_factor: float = 1.0  # plateau schedule
    decays: int = 0
    plateau_best: tuple[float, float] = (-math.inf, -math.inf)
    plateau_step: int = 0

    def gaussians(self) -> FitState:
        """A copy of the Gaussians and of what Adam knows of them."""
        return FitState(self.model.clone(), [(m.clone(), v.clone()) for m, v in self.moments], self.age.clone())


def _arrays(state: FitState, prefix: str = "") -> dict[str, Any]:
    """A state's tensors by name."""
    arrays: dict[str, Any] = {f"{prefix}age": state.age.cpu().numpy()}
    for name, value, (m, v) in zip(Model.NAMES, state.model.tensors(), state.moments, strict=True):
        tensors = {f"{prefix}{name}": value, f"{prefix}m_{name}": m, f"{prefix}v_{name}": v}
        arrays |= {key: tensor.cpu().numpy() for key, tensor in tensors.items()}
    return arrays


def zero_moments(t: Tensor) -> tuple[Tensor, Tensor]:
    """Adam's m and v of a parameter that has taken no step."""
    return torch.zeros_like(t), torch.zeros_like(t)


def _about(fit: Fit) -> dict[str, Any]:
    """What a fit is of and the recipe doesn't say, by the name that messages have for it."""

    def crc(values: Tensor | None) -> int | None:
        return None if values is None else zlib.crc32(np.ascontiguousarray(values.cpu().numpy()).tobytes())

    return {
        "picture": crc(fit.target),
        "weighting of pixels (roi, saliency_weight)": crc(fit.loss_map),
        "number of levels": getattr(fit.backend, "num_levels", 1),
        "downsample": getattr(fit.backend, "points", 1) != 1,
        "seed": fit.seed,
    }


def save(fit: Fit, path: Path) -> None:
    """Write a checkpoint (npz, arrays only). That of a fit which has just diverged is not: an earlier one stays."""
    s = fit.state
    if not s.model.is_finite():
        return
    arrays = _arrays(s)
    guards = fit.guards
    if guards.before_move is not None:
        arrays |= _arrays(guards.before_move[1], "before_move_")
    if fit.best is not None:
        arrays |= {f"best_{n}": t.cpu().numpy() for n, t in zip(Model.NAMES, fit.best.tensors(), strict=True)}
    if guards.before_noise is not None:
        named = zip(Model.NAMES, guards.before_noise[2].tensors(), strict=True)
        arrays |= {f"before_noise_{n}": t.cpu().numpy() for n, t in named}
    if fit.learned is not None:
        arrays |= {f"rounding_{n}": t.cpu().numpy() for n, t in fit.learned.state().items()}
        arrays |= {f"best_rounding_{n}": t.cpu().numpy() for n, t in fit.best_rounding.items()}
    if fit.noise is not None:
        arrays["noise"] = fit.noise.generator.get_state().cpu().numpy()
    scalars = {
        "step": s.step,
        "lr_factor": s.lr_factor,
        "decays": s.decays,
        "plateau_best": s.plateau_best,
        "plateau_step": s.plateau_step,
        "best_loss": fit.best_loss,
        "quantized": fit.quantized,
        "before_noise": None if guards.before_noise is None else guards.before_noise[:2],
        "before_move": None if guards.before_move is None else guards.before_move[0],
        "caution": guards.caution,
        "asked": fit.asked,
        "num_gaussians": fit.num_gaussians,
        "last": (fit.last_whole.loss, fit.last.mse, fit.last.ssim) if s.step else None,
        "shape": list(fit.target.shape),
        "about": _about(fit),
        "device": fit.backend.place.type,
        "rng": fit.rng.bit_generator.state,
        "kind": KIND,
    }
    archive.write(path, arrays, scalars, fit.recipe)


def restore(fit: Fit, path: Path) -> None:
    """Go on from a checkpoint of a fit of the same picture and recipe.

    Raises UsageError for one of another fit, InputError for one of another picture and for what is none.
    """
    kept = archive.Archive.read(path)
    Kept(kept).check(fit, _about(fit))
    scalars = kept.scalars

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(kept.arrays[name].copy()).to(fit.backend.place)

    def tensors(prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): tensor(n) for n in kept.arrays if n.startswith(prefix)}

    def model_of(prefix: str) -> Model:
        return Model.of((tensor(f"{prefix}{n}") for n in Model.NAMES), fit.recipe.scale_map)

    def gaussians(prefix: str = "") -> FitState:
        moments = [(tensor(f"{prefix}m_{n}"), tensor(f"{prefix}v_{n}")) for n in Model.NAMES]
        return FitState(model_of(prefix), moments, tensor(f"{prefix}age"))

    def number(value: Any) -> Any:
        return plain(value, (float,))

    fit.state = dataclasses.replace(
        gaussians(),
        step=scalars["step"],
        lr_factor=number(scalars["lr_factor"]),
        decays=scalars["decays"],
        plateau_best=tuple(map(number, scalars["plateau_best"])),
        plateau_step=scalars["plateau_step"],
    )
    guards = fit.guards
    if scalars["before_move"] is not None:
        guards.before_move = number(scalars["before_move"]), gaussians("before_move_")
    if scalars["before_noise"] is not None:
        loss, mse = map(number, scalars["before_noise"])
        guards.before_noise = loss, mse, model_of("before_noise_")
    guards.caution = number(scalars["caution"])
    fit.num_gaussians, fit.quantized = scalars["num_gaussians"], scalars["quantized"]
    fit.options = dataclasses.replace(fit.options, lowpass=fit.lowpass(len(fit.state.model)))
    fit.best_loss = number(scalars["best_loss"])
    fit.best, fit.quantizers, fit.learned = None, None, None
    if "best_position" in kept.arrays:
        fit.best = model_of("best_")
    if kept.has("rounding_"):
        fit.learned = Rounding(fit.state.model, fit.recipe, fit.seed)
        if kept.has("best_rounding_"):
            fit.learned.load(tensors("best_rounding_"))
            try:
                fit.quantizers, fit.best_rounding = fit.learned.quantizers(), fit.learned.state()
            except UsageError as error:
                raise kept.damaged(str(error)) from error
        fit.learned.load(tensors("rounding_"))
    try:
        if fit.noise is not None:
            fit.noise.generator.set_state(tensor("noise").cpu())
        fit.rng.bit_generator.state = scalars["rng"]
    except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise kept.damaged("expected states of random numbers, found others") from error
    if scalars["last"] is not None:
        nothing, (loss, mse, ssim) = torch.empty(0), map(number, scalars["last"])
        fit.last = fit.last_whole = StepResult.of(loss, mse, ssim, (nothing, nothing, nothing, nothing))
