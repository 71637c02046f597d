"""Seconds to encode and decode, on purpose and alone: points measured on a busy machine say nothing about time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from rd import sets
from rd.codecs import Codec, Settings
from rd.neural import Network
from rd.sets import Picture, PictureSet, Profile

RUNS = 3
_ONCE = 20.0  # seconds: what takes longer has one run, as the spread of a process's start no longer counts


def measure(codecs: Sequence[Codec], picture_sets: Sequence[PictureSet], known: dict[str, Any]) -> dict[str, Any]:
    """{codec: {set: {...}}}: medians of three runs on the first picture of each set, at the set's middle rate.

    What takes more than 20 seconds has one run, and what is `known` of the same version of a codec is not measured
    again. The commands' times include starting Python and reading and writing files.
    """
    times = {name: dict(rows) for name, rows in known.items()}
    for codec in codecs:
        for picture_set in picture_sets:
            old = times.get(codec.name, {}).get(picture_set.name)
            if (old and old["version"] == codec.version) or (
                isinstance(codec, Network) and not picture_set.profile.few
            ):
                continue
            row = _time(codec, picture_set.pictures[0], picture_set.profile)
            times.setdefault(codec.name, {})[picture_set.name] = row
            print(f"time {codec.name} {row['picture']}: {row['encode_s']:.2f} s, {row['decode_s']:.3f} s", flush=True)
    return times


def _time(codec: Codec, picture: Picture, profile: Profile) -> dict[str, Any]:
    pixels = sets.load(picture.path)
    settings = middle(codec, profile)
    encodes: list[float] = []
    decodes: list[float] = []
    for _ in range(RUNS):
        if sum(encodes) > _ONCE:
            break
        start = time.perf_counter()
        data = codec.encode(pixels, settings).data
        encodes.append(time.perf_counter() - start)
        start = time.perf_counter()
        codec.decode(data)
        decodes.append(time.perf_counter() - start)
    return {
        "version": codec.version,
        "picture": picture.name,
        "width": picture.width,
        "height": picture.height,
        "bpp": round(8 * len(data) / pixels[..., 0].size, 4),
        "encode_s": round(statistics.median(encodes), 4),
        "decode_s": round(statistics.median(decodes), 4),
    }


def middle(codec: Codec, profile: Profile) -> Settings:
    """The middle of a codec's first ladder; of one that is set by a rate the middle of the set's own rates."""
    ladder = codec.ladders(profile)[0]
    if "bpp" in ladder[0]:
        ladder = ladder[: len(profile.rates)]
    return ladder[len(ladder) // 2]
