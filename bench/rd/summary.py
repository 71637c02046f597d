"""Means over pictures from the results file: what the tables and plots show, as numbers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rd.curves import METRICS, Comparison, bd_rate


@dataclass
class Summary:
    """BD-rates of one codec against another: per cent by picture, and the pictures without an overlap by relation."""

    percent: dict[str, float] = field(default_factory=dict)
    apart: dict[str, list[str]] = field(default_factory=dict)

    def add(self, picture: str, comparison: Comparison) -> None:
        if comparison.percent is None:
            self.apart.setdefault(comparison.relation, []).append(picture)
        else:
            self.percent[picture] = comparison.percent

    @property
    def count(self) -> int:
        """Pictures compared, with and without an overlap."""
        return len(self.percent) + sum(map(len, self.apart.values()))

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.percent.values()) if self.percent else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the sample; None below two pictures."""
        return statistics.stdev(self.percent.values()) if len(self.percent) > 1 else None

    def text(self) -> str:
        """Mean ± deviation, and never without those that could not be compared."""
        if not self.count:
            return "–"
        parts = []
        if self.mean is not None:
            spread = "" if self.deviation is None else f" ± {self.deviation:.1f}"
            parts.append(f"{self.mean:+.1f}{spread} %".replace("-", "−"))
        parts += [f"{relation} on {len(names)}" for relation, names in sorted(self.apart.items())]
        return "; ".join(parts)


class View:
    """The results file by set, picture and codec."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.sets: dict[str, dict[str, Any]] = {s["name"]: s for s in content["sets"]}
        self.curves: dict[str, dict[str, Any]] = content["curves"]

    def label(self, codec: str) -> str:
        return self.content["codecs"][codec]["label"]

    def has(self, codec: str) -> bool:
        return any(codec in curves for curves in self.curves.values())

    @property
    def metrics(self) -> list[str]:
        """Those that some points have."""
        points = [p for curves in self.curves.values() for c in curves.values() for p in c["points"]]
        return [m for m in METRICS if any(m in p for p in points)]

    def measured(self, picture: str, codecs: Sequence[str], metric: str) -> bool:
        """Whether all points of these codecs have the metric: a curve of some of them would be another one."""
        return all(metric in p for c in codecs for p in self.points(picture, c))

    def pictures(self, set_name: str, category: str | None = None, codecs: Sequence[str] = ()) -> list[str]:
        """Names of a set's pictures that have points of all the codecs named."""
        rows = self.sets[set_name]["pictures"]
        named = [p["name"] for p in rows if category is None or p["category"] == category]
        return [n for n in named if all(c in self.curves.get(n, {}) for c in codecs)]

    def categories(self, set_name: str) -> list[str]:
        """The set's categories; none if its pictures are in one folder."""
        return sorted({p["category"] for p in self.sets[set_name]["pictures"]} - {""})

    def points(self, picture: str, codec: str, up_to: float | None = None) -> list[dict[str, Any]]:
        """A codec's points on a picture; of those set by a rate only the ones asked for at most `up_to` bpp."""
        points = self.curves.get(picture, {}).get(codec, {"points": []})["points"]
        return [p for p in points if up_to is None or p.get("target", 0) <= up_to]

    def top(self, set_name: str) -> float:
        """The highest rate that a set's BD-rates are taken over."""
        return max(self.sets[set_name]["profile"]["rates"])

    def compare(
        self,
        set_name: str,
        test: str,
        anchor: str,
        metric: str = "psnr",
        category: str | None = None,
        whole: bool = False,
    ) -> Summary:
        """A codec against another on the pictures that have both.

        The test's points are those up to the set's highest BD rate, or all of them (`whole`); the anchor's are always
        all, as it is read only where the test has a quality. Pictures without the metric are left out.
        """
        summary = Summary()
        up_to = None if whole else self.top(set_name)
        for picture in self.pictures(set_name, category, (test, anchor)):
            if not self.measured(picture, (test, anchor), metric):
                continue
            comparison = bd_rate(self.points(picture, test, up_to), self.points(picture, anchor), metric)
            summary.add(picture, comparison)
        return summary


def mean(values: Iterable[float]) -> float | None:
    """The mean; None of nothing."""
    known = list(values)
    return statistics.fmean(known) if known else None
