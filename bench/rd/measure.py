"""Runs what is missing: one job per picture and codec, point by point through the cache."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rd import metrics, sets
from rd.cache import Key, Record, Store
from rd.codecs import Codec, Settings
from rd.sets import Picture, PictureSet, Profile


@dataclass(frozen=True)
class Job:
    """One codec's points on one picture."""

    picture: Picture
    profile: Profile
    codec: Codec


@dataclass
class Outcome:
    """A job's points by rising setting, how many of them were measured now, and what went wrong."""

    job: Job
    points: list[dict[str, Any]]
    measured: int
    failures: list[str]
    complete: bool


@dataclass(frozen=True)
class Bench:
    """Where points are kept and what is measured. `peek`: only take what is there; `quick`: without FLIP."""

    cache: Path
    accept_stale: bool = False
    lpips_weights: str | None = None
    peek: bool = False
    quick: bool = False

    def run(self, job: Job) -> Outcome:
        """All of a job's points: from the cache, or measured and put there."""
        store = Store(self.cache, self.accept_stale)
        pixels = sets.load(job.picture.path)
        picture = sets.fingerprint(pixels)
        wanted = metrics.wanted(self.lpips_weights, self.quick)
        outcome = Outcome(job, [], 0, [], True)
        for ladder in job.codec.ladders(job.profile):
            for settings in ladder:
                key = Key(job.codec.family, job.codec.version, picture, settings)
                record = store.find(key)
                lacking = [m for m in wanted if record is None or m not in record.values]
                if record and (self.peek or not lacking):
                    values = record.values | ({"stale": True} if record.stale else {})
                elif self.peek:
                    outcome.complete = False
                    if job.codec.stops:
                        break  # how far the ladder goes isn't known
                    continue
                else:
                    old = record if record and record.data is not None else None  # lacks a metric only
                    try:
                        values, data = self._measure(job.codec, pixels, settings, wanted, old)
                    except (RuntimeError, OSError, ValueError) as error:
                        outcome.failures.append(f"{job.codec.name}, {job.picture.name}, {settings}: {error}")
                        outcome.complete = False
                        continue
                    if old:  # may be an older version's: it stays that
                        key = Key(key.family, old.values["version"], key.picture, settings)
                    store.save(key, values, data if job.codec.keep else None)
                    values = {"version": key.version, "settings": settings} | values
                    values |= {"stale": True} if old and old.stale else {}
                    outcome.measured += 1
                outcome.points.append(values)
                if job.codec.stops and values["bpp"] > job.profile.limit:
                    break
        return outcome

    def _measure(
        self,
        codec: Codec,
        pixels: NDArray[np.uint8],
        settings: Settings,
        wanted: tuple[str, ...],
        old: Record | None,
    ) -> tuple[dict[str, Any], bytes]:
        """Encode (unless the bytes are there already), decode, compare."""
        if old and old.data is not None:
            values, data = dict(old.values), old.data
        else:
            start = time.perf_counter()
            encoded = codec.encode(pixels, settings)
            values = {"encode_s": time.perf_counter() - start, "details": encoded.details}
            data = encoded.data
        start = time.perf_counter()
        decoded = codec.decode(data)
        values["decode_s"] = time.perf_counter() - start
        if decoded.shape != pixels.shape:
            raise RuntimeError(f"expected a picture of shape {pixels.shape}, decoded one of {decoded.shape}")
        values |= {"bytes": len(data), "bpp": 8 * len(data) / (pixels.shape[0] * pixels.shape[1])}
        return values | metrics.measure(pixels, decoded, wanted, self.lpips_weights), data


def jobs(picture_sets: Sequence[PictureSet], codecs: Sequence[Codec], everywhere: bool = False) -> list[Job]:
    """Codecs outermost: the cheap ones are done with before the dear ones start."""
    return [Job(p, s.profile, c) for c in codecs for s in picture_sets for p in chosen(c, s, everywhere)]


def chosen(codec: Codec, picture_set: PictureSet, everywhere: bool = False) -> list[Picture]:
    """The pictures of a set that a codec is measured on."""
    pictures = list(picture_set.pictures)
    if everywhere or codec.pictures == "all":
        return pictures
    return sets.spread(pictures, getattr(picture_set.profile, codec.pictures))


def run_all(bench: Bench, todo: Sequence[Job], workers: int = 1) -> Iterator[Outcome]:
    """Outcomes as they come; in this process if there is one worker."""
    if workers <= 1:
        yield from map(bench.run, todo)
        return
    # Not forked: PyTorch's threads don't survive it.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures: list[Future[Outcome]] = [pool.submit(bench.run, job) for job in todo]
        for future in as_completed(futures):
            yield future.result()
