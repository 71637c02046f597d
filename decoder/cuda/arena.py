"""Pictures on the device: their Gaussians, and for each cell the list of those that reach it.

An arena holds one picture or many of one kind, in a few arrays that one launch can draw them all from.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from igs.decoder.cuda import arrays
from igs.decoder.cuda import cells as table
from igs.decoder.cuda.device import load
from igs.decoder.cuda.specialize import Kind, cell_kernel, enough
from igs.decoder.output import is_plain
from igs.decoder.rule import Rule, Splats
from igs.format.errors import LimitExceeded
from igs.format.fields import UNIT
from igs.format.transfer import CURVED

if TYPE_CHECKING:
    from igs.format import Group

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]

_SHIFT = 18  # cells of 16 pixels: at scale 1 a tile is a cell
_MIN_SHIFT = 14
_GAUSSIANS_PER_CELL = 32  # where there are more, cells are halved: a point goes through all of its cell's list
_MAX_CELLS = 1 << 22
_LITTLE = "expected memory on the device, found too little for {}"
MAX_WORDS = 1 << 30  # of Gaussians: lists hold their places in 32 bits
_MAX_ENTRIES = 1 << 30  # 4 GB; reached by files made to be slow, not by pictures


@dataclasses.dataclass(frozen=True)
class Picture:
    """What is to be blended, and where; ready to be uploaded."""

    kind: Kind
    words: tuple[Ints, ...]  # per layer, [n, stride]
    rules: tuple[Floats, ...]  # per layer, [2 + 5·C]
    box: tuple[int, int, int, int]  # left, top, right, bottom in units: where points are to be expected

    @classmethod
    def of(
        cls, layers: Sequence[tuple[Splats, Rule]], groups: Sequence[Group], raw: bool, box: tuple[int, int, int, int]
    ) -> Picture:
        """layers: what is blended by itself and added up; all that reaches ``box`` must be in them."""
        splats, rule = layers[0]
        plain = raw or is_plain(groups)
        kind = Kind(0 if rule.sum_blend else rule.top_k, len(rule.background), splats.features.shape[1], plain)
        parts = tuple(words(splats) for splats, _ in layers)
        return cls(kind, parts, tuple(rule_row(rule, groups, raw) for _, rule in layers), box)


def rule_row(rule: Rule, groups: Sequence[Group], raw: bool) -> Floats:
    """R², Q², then per channel: background, lit, gamma, alpha's channel or −1, curve or 0: float32 [2 + 5·C]."""
    from igs.format import Alpha, each_group

    channels = len(rule.background)
    gamma, alpha, curve = (np.full(channels, value, np.float32) for value in (1, -1, 0))
    for group, whole, colours, _ in each_group(groups if not raw else ()):
        gamma[colours] = group.gamma
        if group.alpha == Alpha.PREMULTIPLIED:
            alpha[colours] = whole.stop - 1
        if group.transfer in CURVED:
            curve[colours] = group.transfer
    return np.concatenate([rule.floats, gamma, alpha, curve])


def words(splats: Splats) -> Ints:
    """A row of 32-bit words per Gaussian, padded to 16 bytes, so that a point reads one sector or a few for each.

    Mx, My, then as bits of binary32 P, Q, R_ and the features: int32 [n, stride].
    """
    n, features = splats.features.shape
    packed = np.zeros((n, stride(features)), np.int32)
    packed[:, :2] = splats.means.T
    packed[:, 2:5] = splats.factors.T.view(np.int32)
    packed[:, 5 : 5 + features] = splats.features.view(np.int32)
    return packed


def stride(features: int) -> int:
    """Words to a Gaussian."""
    return -(-(5 + features) // 4) * 4


def cell_shift(width: int, height: int, gaussians: int) -> int:
    """log2 of a cell's side, in units, for a box of width × height units."""

    def cells(shift: int) -> int:
        return ((width >> shift) + 1) * ((height >> shift) + 1)

    shift = _SHIFT
    while shift > _MIN_SHIFT and gaussians > _GAUSSIANS_PER_CELL * cells(shift):
        shift -= 1
    while cells(shift) > _MAX_CELLS:
        shift += 1
    return shift


def guess(gaussians: int, cells: int) -> list[int]:
    """Room for the entries of the lists of coarse cells, and of cells: about twice what pictures need."""
    return [8 * gaussians + 1024, 8 * gaussians + 32 * cells]


class Arena:
    """Pictures of one kind on the device."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        """Upload and make the lists. Raises LimitExceeded if they do not fit."""
        self.kind = pictures[0].kind
        self.boxes = [picture.box for picture in pictures]
        self.layer_ends = list(itertools.accumulate(len(picture.words) for picture in pictures))
        layers, rules, packed = self._tables(pictures)
        cuda = load()
        self._cuda = cuda
        with arrays.room(LimitExceeded("E_LIMIT_GAUSSIANS", _LITTLE.format(f"{len(packed)} Gaussians"))):
            self._words = cuda.to_device(packed.reshape(-1))
            self._layers = cuda.to_device(layers)
            self._rules = cuda.to_device(rules)
            entries, cells = self._lists()
        self.arrays: tuple[Any, ...] = (self._words, entries, cells, self._layers, self._rules)

    def first_layer(self, picture: int) -> int:
        """The first row of a picture in the table of layers."""
        return self.layer_ends[picture - 1] if picture else 0

    def _tables(self, pictures: Sequence[Picture]) -> tuple[Longs, Floats, Ints]:
        rows: list[list[int]] = []
        rules: list[Floats] = []
        parts: list[Ints] = []
        gaussians = runs = cells = coarse = 0
        for picture in pictures:
            left, top, right, bottom = picture.box
            for part, rule in zip(picture.words, picture.rules, strict=True):
                n = len(part)
                shift = cell_shift(right - left, bottom - top, n)
                columns, lines = ((right - left) >> shift) + 1, ((bottom - top) >> shift) + 1
                across, down = (-(-side // (1 << table.COARSE)) for side in (columns, lines))
                number = -(-n // table.RUN)
                rows.append(
                    [gaussians, n, runs, number, cells, columns, lines, coarse, across, shift, left, top, len(rules)]
                )
                gaussians, runs, cells, coarse = (
                    gaussians + n,
                    runs + number,
                    cells + columns * lines,
                    coarse + across * down,
                )
                rules.append(rule)
                parts.append(part)
        if gaussians * stride(self.kind.features) > MAX_WORDS:
            raise LimitExceeded("E_LIMIT_GAUSSIANS", _LITTLE.format(f"{gaussians} Gaussians"))
        self._counts = gaussians, runs, cells, coarse
        return np.array(rows, np.int64), np.stack(rules), parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _lists(self) -> tuple[Any, Any]:
        """Entries and cells; run again with enough room if the guess was too small."""
        cuda = self._cuda
        gaussians, runs, cells, coarse = self._counts
        step = stride(self.kind.features)
        boxes = cuda.device_array((runs, 4), np.float32)
        if runs:
            cell_kernel("run_boxes")[enough(runs), table.RUN](self._words, step, self._layers, self._rules, boxes)
        ranges = [cuda.device_array((number, 2), np.uint32) for number in (coarse, cells)]
        rooms = guess(gaussians, cells)
        entries: list[Any] = []
        while True:
            if max(rooms) > _MAX_ENTRIES:
                raise self._too_many(max(rooms))
            entries.clear()  # before larger ones, which may take their place
            totals = cuda.to_device(np.zeros(2, np.int64))
            with arrays.room(self._too_many(max(rooms))):
                entries += [cuda.device_array(room, np.uint32) for room in rooms]
            common = (self._layers, self._rules)
            cell_kernel("fill_coarse")[enough(coarse), table.RUN](
                self._words, step, *common, boxes, totals, entries[0], ranges[0]
            )
            cell_kernel("fill_cells")[enough(cells), table.RUN](
                self._words, *common, entries[0], ranges[0], totals, entries[1], ranges[1]
            )
            needed = totals.copy_to_host().tolist()  # waits for the lists
            if needed[0] <= rooms[0] and needed[1] <= rooms[1]:
                return entries[1], ranges[1]
            rooms = [max(room, number) for room, number in zip(rooms, needed, strict=True)]

    @staticmethod
    def _too_many(entries: int) -> LimitExceeded:
        return LimitExceeded("E_LIMIT_REACH_RATIO", _LITTLE.format(f"{entries} entries of the lists of cells"))


def picture_box(width: int, height: int) -> tuple[int, int, int, int]:
    """The box of a whole picture of width × height pixels."""
    return 0, 0, width * UNIT - 1, height * UNIT - 1
