"""Lattice quantisers for a fit: how coarse, and noise of that coarseness while fitting.

One number, the *coarseness*, scales all steps together; their proportions are constants that balance what each
attribute's rounding costs (spec §6.4) when those rounded after it, and other Gaussians, have made up for it.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from igs.encoder.raster.backend import Backend
from igs.encoder.raster.model import Model
from igs.format import lattice as la
from igs.format.lattice import BROAD, BROADEST, Lattice

# Of the mean, ln σ₂, ln(σ₁/σ₂), the turn, a value, a chroma difference: see `Steps`. Sixteen Kodak pictures at 0.2 bpp,
# effort 3, had 29.961 dB and MS-SSIM 0.9387 in a draft of today's rounding. With chroma coarser by 13 % 29.938, with
# ratios by 9 % 29.945; minors, turns and values by −10, −7 and +4 % 29.950; all finer by 8 % 29.947. As it was before
# several ways of rounding were weighed (0.42, 0.2, 0.18, 0.45, 0.08, 0.09) 29.930, 0.9377. Seeds differ by 0.01.
_MEAN, _MINOR, _RATIO, _ROTATION, _VALUE, _CHROMA = 0.52, 0.21, 0.23, 0.47, 0.1, 0.12
SLOPE_STEP = 0.065  # a slope acts over two or three deviations
_LOG2E = 1.4426950408889634


@dataclasses.dataclass(frozen=True)
class Steps:
    """Steps of the attributes at one coarseness; the feature steps are of luma and chroma, or of each channel.

    mean: standard deviations; minor: ln σ₂; ratio: ln(σ₁/σ₂); rotation: radians of apparent turn; feature: stored
    values. All for a Gaussian of σ = 1 pixel; the lattice makes them finer for larger ones.
    """

    mean: float
    minor: float
    ratio: float
    rotation: float
    feature: tuple[float, ...]

    @staticmethod
    def of(coarseness: float, channels: int, features: int, rgb: list[int]) -> Steps:
        """The balanced steps. features: the channels, and slopes behind them if there are any."""
        feature = [_VALUE] * channels + [SLOPE_STEP] * (features - channels)
        for c in rgb:
            feature[c + 1] = feature[c + 2] = _CHROMA
        q = coarseness
        return Steps(_MEAN * q, _MINOR * q, _RATIO * q, _ROTATION * q, tuple(f * q for f in feature))

    def record(self, rgb: bool, finer: tuple[int, ...] = ()) -> Lattice:
        """A lattice record with these steps, rounded to what the file can hold, and models that suit nothing yet.

        finer: added to the features' step codes, if given: eighths of an octave.
        """
        return Lattice(
            la.step_code(self.mean),
            la.step_code(self.minor / 2),
            la.step_code(self.ratio * _LOG2E),
            la.step_code(self.rotation),
            tuple(
                min(max(la.step_code(f) + more, 0), 255)
                for f, more in zip(self.feature, finer or (0,) * len(self.feature), strict=True)
            ),
            rgb,
            BROAD,
            255,  # room for any elongation of any size
            (BROADEST,) * len(self.feature),
        )


class Noise:
    """Uniform noise of one step on every attribute: what rounding will do, while the fit can still adapt to it."""

    def __init__(self, channels: int, features: int, rgb: list[int], seed: int, backend: Backend) -> None:
        self.rgb, self._backend, place = rgb, backend, backend.place
        self.generator = torch.Generator(place).manual_seed(seed)
        steps = Steps.of(1.0, channels, features, rgb)
        mixed = np.diag(steps.feature) @ la.correlate(np.eye(features), rgb)
        self._steps = torch.tensor(
            [steps.mean, steps.minor, steps.ratio, steps.rotation], dtype=torch.float32, device=place
        )
        self._mixed = torch.from_numpy(mixed).float().to(place)

    def add(self, model: Model, coarseness: float | torch.Tensor) -> Model:
        """A noisy copy of a model.

        coarseness: a number; or one on the model's device, which then isn't waited for, or one per Gaussian there, [N].
        """
        if not isinstance(coarseness, torch.Tensor):
            coarseness = torch.full((1,), coarseness, dtype=torch.float32, device=self._backend.place)
        shape = len(model), 5 + len(self._mixed)
        u = torch.rand(*shape, generator=self.generator, dtype=torch.float32, device=self._backend.place) - 0.5
        return self._backend.add_noise(model, coarseness.reshape(-1), self._steps, self._mixed, u)


def _log_scale(model: Model) -> torch.Tensor:
    """ln σ [N, 2] of a model of deviations."""
    return model.scale if model.scale_map == "log" else model.sigmas().log()


def rate_gradients(model: Model, rgb: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the bits that all Gaussians will take, by scale parameter [N, 2] and feature [N, C].

    The models are the codec's with one change: what is known of neighbours is left out. Positions and angles are
    spread evenly, so that only the number of their lattice points counts, which is a matter of size.
    """
    log = _log_scale(model)
    ln1, ln2 = log.amax(dim=1), log.amin(dim=1)
    channels = model.feature.shape[1]  # slopes count as channels here
    # Steps fall with the size as `add_noise_reference` has it. Then the nats are, in ln1 and ln2,
    # of the position −ln(area of a lattice cell) = −(ln1 + ln2) + (ln1 + 3·ln2)/4,
    # of the angle ln(how many) = (ln1 − ln2) + (ln1 + 3·ln2)/8, but of round Gaussians, which have none,
    # of minor and ratio ln2/2 each, and of each feature (3·ln1 + 4·ln2)/8.
    long = torch.tanh(ln1 - ln2)
    grad1 = -0.75 + long * 1.125 + 3 * channels / 8
    grad2 = -0.25 + long * -0.625 + 1.0 + 4 * channels / 8
    grad2 = grad2 + _logistic_slope(ln2)
    # Elongations have a Weibull density of power 1.5: its mean is 0.9 of the spread, which falls with the size.
    rho = (ln1 - ln2).clamp_min(0.05)
    spread = (rho * torch.exp(-la.RATIO_FALL * ln2)).mean() / 0.9 * torch.exp(la.RATIO_FALL * ln2)
    slope = 1.5 * (rho / spread).sqrt() / spread - 0.5 / rho
    grad1, grad2 = grad1 + slope, grad2 - slope
    second = log[:, 1] > log[:, 0]
    scale = torch.where(second[:, None], torch.stack([grad2, grad1], 1), torch.stack([grad1, grad2], 1))
    if model.scale_map != "log":  # d ln σ is dσ/σ, and −d(1/σ)/(1/σ)
        scale = scale / (model.scale if model.scale_map == "raw" else -model.scale)
    mix = torch.from_numpy(la.decorrelate(np.eye(channels), rgb)).float().to(model.feature.device)
    values = model.feature @ mix
    slopes = torch.stack([_logistic_slope(values[:, c]) for c in range(channels)], 1)
    return scale / math.log(2), (slopes @ mix.T) / math.log(2)


def _logistic_slope(v: torch.Tensor) -> torch.Tensor:
    """Slope of −ln of a logistic density fitted to the values, at the values."""
    center = v.median()
    spread = (v - center).abs().mean() / (2 * math.log(2)) + 1e-4
    return torch.tanh((v - center) / (2 * spread)) / spread
