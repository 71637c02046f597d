"""Which maps of a stack share Gaussians, and what bytes each part gets (spec §3.6): a search by quick encodes.

Maps with the same edges cost less together, one set of positions and shapes serving both; maps with edges of their own
cost less apart, since at each Gaussian every channel of its part has a feature. How many bytes a part is worth follows
from its curve of error by bytes: at the best split a further byte gains as much everywhere.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from igs.encoder.loading.source import SourceImage
from igs.encoder.rate import ERROR_FALL
from igs.format import each_group
from igs.format.errors import UsageError

Energy = NDArray[np.float32]
Parts = tuple[tuple[int, ...], ...]  # the numbers of each part's groups, ascending
# A quick encode of a part in about so many bytes → the bytes that it has, and its squared error, summed over channels
# with their weights.
Probe = Callable[[tuple[int, ...], float], tuple[float, float]]

# Error falls with bytes to a power: at first that of photographs, then between these as two encodes tell.
_FALL_RANGE = (0.25, 2.0)
_APART = 1.5  # a ratio of bytes above which two encodes tell a power
_LEAST_SHARE, _LEAST_BYTES = 0.01, 150  # for any part, the share of a fair one
_CELLS = 512  # a side: where edges are need not be known more finely
_LEAST_ALIKE = 0.15  # correlation of edges below which two parts are not tried together
_TRIALS = 2  # pairs that are tried, for each group
# Quick encodes flatter what is together, of the 30 pairs of three stacks by 0.2 dB beside encodes of effort 3, and are
# off by as much again: below the first ratio of errors two parts are joined, up to the second it is doubtful. All maps
# of one stack (trim_misc) they flattered by more.
_LESS, _ALL_LESS, _DOUBTFUL = 0.955, 0.9, 1.05
AUTO, ONE = "auto", "one"  # what can be asked for besides "each" and names


@dataclasses.dataclass
class Curve:
    """Error by bytes of one part, S = error·(bytes/size)^−fall around what was measured last."""

    groups: tuple[int, ...]
    size: float
    error: float
    fall: float = ERROR_FALL

    def at(self, size: float) -> float:
        """The error at so many bytes."""
        return self.error * (size / self.size) ** -self.fall

    def measured(self, size: float, error: float) -> None:
        """Another measurement: the curve goes through it, with the slope between the two where they are far apart."""
        ratio = size / self.size
        if max(ratio, 1 / ratio) >= _APART and error > 0 and self.error > 0:
            self.fall = min(max(-math.log(error / self.error) / math.log(ratio), _FALL_RANGE[0]), _FALL_RANGE[1])
        self.size, self.error = size, error


def divide(curves: Sequence[Curve], total: float) -> list[float]:
    """Bytes for each part, ``total`` together, with the least error: where −dS/db is the same for all."""
    fair = total / len(curves)
    least = min(max(_LEAST_SHARE * fair, _LEAST_BYTES), fair)

    def sizes(log_slope: float) -> list[float]:
        found = []
        for curve in curves:
            # S = a·b^−f, −dS/db = f·a·b^(−f−1)
            log_a = math.log(max(curve.error, 1e-30)) + curve.fall * math.log(curve.size)
            log_b = (math.log(curve.fall) + log_a - log_slope) / (curve.fall + 1)
            found.append(min(max(math.exp(min(log_b, 100.0)), least), total))
        return found

    low, high = -200.0, 200.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(sizes(middle)) > total else (low, middle)
    found = sizes(high)
    scale = total / sum(found)
    return [size * scale for size in found]


@dataclasses.dataclass(frozen=True)
class Found:
    """Parts that promise the least error, in the order of their first groups.

    doubtful: those of them, two or all, that may be better together, the likeliest first.
    """

    curves: list[Curve]
    doubtful: list[Parts]


def search(source: SourceImage, total: float, probe: Probe) -> Found:
    """The parts for ``total`` bytes."""
    energies = edge_energies(source)
    numbers = range(len(source.groups))
    curves = measured([(i,) for i in numbers], source, total, probe, energies)
    ratios: dict[Parts, float] = {}  # of errors, together and apart
    while len(curves) > 1 and len(ratios) < _TRIALS * len(numbers):
        pairs = [
            (_alike(energies, a.groups, b.groups), i, j)
            for (i, a), (j, b) in itertools.combinations(enumerate(curves), 2)
            if (a.groups, b.groups) not in ratios
        ]
        alike, i, j = max(pairs, default=(0.0, 0, 0))
        if alike < _LEAST_ALIKE:
            break
        a, b = curves[i], curves[j]
        sizes = divide(curves, total)
        both = sizes[i] + sizes[j]
        groups = together([a.groups, b.groups])
        merged = Curve(groups, *probe(groups, both), (a.fall + b.fall) / 2)
        ratio = ratios[a.groups, b.groups] = merged.at(both) / max(a.at(sizes[i]) + b.at(sizes[j]), 1e-30)
        if ratio < _LESS:
            curves = [c for k, c in enumerate(curves) if k not in (i, j)] + [merged]
    every = tuple(numbers)
    if len(curves) > 2:  # of two it is known
        merged = Curve(every, *probe(every, total))
        ratio = ratios[tuple(c.groups for c in curves)] = merged.at(total) / max(error_of(curves, total), 1e-30)
        if ratio < _ALL_LESS:
            curves = [merged]
    left = {curve.groups for curve in curves}
    doubtful = sorted((r, some) for some, r in ratios.items() if r < _DOUBTFUL and left.issuperset(some))
    return Found(sorted(curves, key=lambda curve: curve.groups), [some for _, some in doubtful])


def together(some: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """The groups of some parts."""
    return tuple(sorted(group for part in some for group in part))


def error_of(curves: Sequence[Curve], total: float) -> float:
    """The error of all parts together in ``total`` bytes at the best split."""
    return sum(c.at(b) for c, b in zip(curves, divide(curves, total), strict=True))


def measured(
    parts: Sequence[tuple[int, ...]],
    source: SourceImage,
    total: float,
    probe: Probe,
    energies: Sequence[Energy] | None = None,
) -> list[Curve]:
    """Curves of some parts around the bytes that they deserve: first at what their edges promise, then there.

    energies: the groups' ``edge_energies``, if they are known.
    """
    energies = edge_energies(source) if energies is None else energies
    promises = [float(e.sum()) * w for e, w in zip(energies, _weights(source), strict=True)]
    guess = [Curve(part, total, sum(promises[i] for i in part)) for part in parts]
    curves = [Curve(part, *probe(part, size)) for part, size in zip(parts, divide(guess, total), strict=True)]
    for curve, size in zip(curves, divide(curves, total), strict=True):
        ratio = size / curve.size
        if max(ratio, 1 / ratio) >= _APART:
            curve.measured(*probe(curve.groups, size))
    return curves


def _weights(source: SourceImage) -> tuple[float, ...]:
    return source.weights or (1.0,) * len(source.groups)


def edge_energies(source: SourceImage) -> list[Energy]:
    """Of each group the squared gradients, a little blurred and summed over its channels.

    Of large pictures they are sums over squares of pixels, so that no side has much more than _CELLS. A side of one
    pixel counts as two of the same value.
    """
    found = []
    twice = [axis for axis, side in enumerate((source.height, source.width)) if side == 1]
    square = max(1, max(source.height, source.width) // _CELLS)
    for at in each_group(source.groups):
        energy: Energy = np.zeros((), np.float32)
        for channel in range(at.whole.start, at.whole.stop):
            pixels = source[..., channel]
            for axis in twice:
                pixels = pixels.repeat(2, axis)
            across, down = np.diff(pixels, axis=1)[:-1], np.diff(pixels, axis=0)[:, :-1]
            energy = energy + across**2 + down**2
        found.append(_summed(_blurred(_blurred(energy)), square))
    return found


def _summed(values: Energy, square: int) -> Energy:
    """Sums over squares of so many values a side; of those at the end over what there is."""
    if square == 1:
        return values
    rows, columns = (np.arange(0, n, square) for n in values.shape)
    return np.asarray(np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1))


def _blurred(values: Energy) -> Energy:
    """Means over 3 × 3 values; at the border the last one counts again."""
    padded = np.pad(values, 1, mode="edge")
    rows = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return np.asarray((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 3)


def _alike(energies: Sequence[Energy], a: Sequence[int], b: Sequence[int]) -> float:
    """Correlation of where two sets of groups have edges, −1 … 1; 1 where one has none, which fits any other."""
    x, y = (np.sqrt(np.sum([_scaled(energies[i]) for i in part], axis=0)).ravel() for part in (a, b))
    if x.std() == 0 or y.std() == 0:
        return 1.0
    return float(np.corrcoef(x, y)[0, 1])


def _scaled(energy: Energy) -> Energy:
    mean = energy.mean()
    return energy / mean if mean > 0 else energy


def part_of(source: SourceImage, part: Sequence[int]) -> SourceImage:
    """The picture of some groups alone, without metadata."""
    slices = [at.whole for at in each_group(source.groups)]
    weights = tuple(source.weights[i] for i in part) if source.weights else ()
    return dataclasses.replace(
        source,
        values=np.ascontiguousarray(np.concatenate([source.values[..., slices[i]] for i in part], axis=2)),
        groups=tuple(source.groups[i] for i in part),
        sections={},
        warnings=[],
        weights=weights,
    )


def by_names(asked: Sequence[Sequence[str]], source: SourceImage) -> Parts:
    """Parts by the names of their groups; groups that are not named are a part together. Raises UsageError."""
    known = {group.name: i for i, group in enumerate(source.groups)}
    found: list[tuple[int, ...]] = []
    for names in asked:
        for name in names:
            if name not in known:
                raise UsageError(f"parts: expected names among {', '.join(known)}, found {name!r}")
        found.append(tuple(sorted(known[name] for name in names)))
    every = [i for part in found for i in part]
    if len(set(every)) != len(every) or not all(found):
        raise UsageError("parts: expected each map in one part, none empty, found others")
    rest = tuple(i for i in range(len(source.groups)) if i not in every)
    return tuple(sorted([*found, rest] if rest else found))
