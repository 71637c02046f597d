"""What the kernels work on: the header fields that decide a value (spec §7), and Gaussians in columns."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from igs.format import Gaussians, Header


@dataclasses.dataclass(frozen=True)
class Rule:
    """The header fields that decide a value at a point."""

    reach2: float  # R²
    relative_reach2: float  # Q²; inf: none
    top_k: int  # K; 0 for sum
    sum_blend: bool
    background: npt.NDArray[np.float32]  # [C]
    lit: npt.NDArray[np.float32]  # [C] 1 where a Gaussian's gradient, if it has one, is added; 0 for alpha

    @classmethod
    def of(cls, header: Header) -> Rule:
        """The rule of a file; its background is that of level 0."""
        from igs.format import Blend, lit_channels

        background = np.asarray(header.background, np.float32)
        lit = np.array(lit_channels(header.groups), np.float32)
        return cls(header.reach2, header.relative_reach2, header.top_k, header.blend == Blend.SUM, background, lit)

    def without_background(self) -> Rule:
        """For the residual levels above 0 (spec §9)."""
        return dataclasses.replace(self, background=np.zeros_like(self.background))

    def select(self, channels: npt.NDArray[np.intp]) -> Rule:
        """For some of the channels."""
        return dataclasses.replace(self, background=self.background[channels], lit=self.lit[channels])

    @property
    def reach(self) -> float:
        """R⁺ of spec §4: a Gaussian with binary32 d2 ≤ R² at a point has its exact d below it."""
        return float(np.sqrt(np.float64(np.float32(self.reach2)))) * (1.0 + 2.0**-9)

    @property
    def floats(self) -> npt.NDArray[np.float32]:
        """R², Q², background [C], lit [C]: what the kernels take."""
        return np.concatenate([np.array([self.reach2, self.relative_reach2], np.float32), self.background, self.lit])


@dataclasses.dataclass(frozen=True)
class Splats:
    """Gaussians in columns, in order of file-wide index. The arrays are C-contiguous."""

    means: npt.NDArray[np.int32]  # [2, n] x and y in units of 2^-14 pixel
    factors: npt.NDArray[np.float32]  # [3, n] P, Q, R_ of spec §6.2
    features: npt.NDArray[np.float32]  # [n, F]: C colours, then, of the gradient primitive, a and b

    @classmethod
    def of(cls, gaussians: Gaussians) -> Splats:
        """Transpose what the format hands out."""
        return cls(
            np.ascontiguousarray(gaussians.means.T, np.int32),
            np.ascontiguousarray(gaussians.factors.T, np.float32),
            np.ascontiguousarray(gaussians.features, np.float32),
        )

    def select(self, columns: npt.NDArray[np.intp]) -> Splats:
        """With some of the feature columns."""
        return Splats(self.means, self.factors, np.ascontiguousarray(self.features[:, columns]))

    def take(self, indices: npt.NDArray[np.int64] | slice) -> Splats:
        """Some of them."""
        return Splats(
            np.ascontiguousarray(self.means[:, indices]),
            np.ascontiguousarray(self.factors[:, indices]),
            np.ascontiguousarray(self.features[indices]),
        )
