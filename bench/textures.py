"""Texture stacks: igs beside ASTC, BC1 and BC7 at equal rates, and in parts beside one part and maps coded apart.

python bench/textures.py [FOLDER…] [--subset N] [--size S] [--rates 0.03,0.06,…] [--effort E] [--threads T]

A folder holds the maps of one material (or is a folder of such folders); without one those beside the checkout are
taken. Rates are bits per pixel and channel. Every point is kept in bench/cache, keyed by the pixels, the settings and
the codec's version (igs' is a hash of its sources), so that a run can be stopped and started again; --accept-stale
takes other versions' points too. The points go to bench/results/textures.json, by size and effort, and the tables of
docs/textures.md are made of that file (--render-only). A full run at full size takes hours.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
from rd import blocks, stacks, texture_tables
from rd.cache import Key, Store
from rd.sets import fingerprint, spread
from rd.stacks import Stack

RESULTS = common.RESULTS / "textures.json"
PAGE = common.REPO / "docs" / "textures.md"
CACHE = common.REPO / "bench" / "cache" / "textures"
RATES = (0.03, 0.06, 0.12, 0.2, 0.25)
APART_RATES = (0.0075, 0.03, 0.06, 0.12, 0.25, 0.5)  # of single maps: some want more of the bytes than others
PEER_RATES = (0.008, 0.6)  # points of block codecs between these are measured


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, help="folders of maps (default: those beside the checkout)")
    parser.add_argument("--subset", type=int, metavar="N", help="only N stacks, evenly spread")
    parser.add_argument("--size", type=int, metavar="S", help="reduce maps to this longer side first (default: not)")
    parser.add_argument("--rates", type=_numbers, default=RATES, metavar="B,…", help="bits per pixel and channel")
    parser.add_argument("--effort", type=int, default=5, metavar="E", help="igs-encode's effort (default 5)")
    parser.add_argument("--threads", type=int, metavar="T", help="CPU threads of igs (default: all cores)")
    parser.add_argument(
        "--no-apart", action="store_true", help="leave out stacks in one part, and maps coded by themselves"
    )
    parser.add_argument("--accept-stale", action="store_true", help="take points of other versions of a codec as well")
    parser.add_argument("--cached", action="store_true", help="measure nothing: take what is there")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="JSON")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="MD", help="the document whose tables are replaced")
    parser.add_argument("--render-only", action="store_true", help="make the tables of the results as they are")
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(sorted(float(x) for x in text.split(",")))


def find(given: list[Path]) -> list[Path]:
    """Folders of maps: those given, or their sub-folders where they hold no files."""
    chosen = given or [common.DATA / "textures"]
    found = []
    for folder in chosen:
        if not folder.is_dir():
            raise SystemExit(f"textures: expected a folder of maps, found {folder}")
        inside = sorted(p for p in folder.iterdir() if p.is_dir())
        found += [folder] if any(p.is_file() for p in folder.iterdir()) else inside
    return found


class Bench:
    """Measures what the cache lacks."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.store = Store(options.cache, options.accept_stale)

    def point(
        self, stack: Stack, family: str, version: str, settings: dict[str, Any], run: Callable[[], Any]
    ) -> dict[str, Any] | None:
        """A point from the cache, or measured; None where it may not be measured. run → bytes, decoded, details."""
        key = Key(family, version, fingerprint(stack.pixels), settings)
        record = self.store.find(key)
        if record is None and not self.options.cached:
            size, decoded, details = run()
            rate = size * 8 / stack.pixels.size
            measured = {"bytes": size, "bppc": rate, **stacks.quality(stack, decoded), "details": details}
            self.store.save(key, measured)
            record = self.store.find(key)
            words = " ".join(f"{k}={v}" for k, v in settings.items())
            print(f"{stack.name} {family} {words}: {rate:.4f} bppc, {measured['psnr_mean']:.2f} dB", flush=True)
        if record is None:
            return None
        return {"settings": settings, **record.values, **({"stale": True} if record.stale else {})}

    def peers(self, stack: Stack) -> dict[str, list[dict[str, Any]]]:
        """Points of the block codecs at the mips that come to rates of interest."""
        found: dict[str, list[dict[str, Any]]] = {}
        channels = [count for _, count in stack.maps]
        textures = len(blocks.textures(channels))
        for codec in blocks.CODECS:
            if reason := blocks.missing(codec.family):
                print(f"skipped {codec.family}: {reason}")
                continue
            for level, mip in enumerate(blocks.mips(stack.pixels)):
                rate = 8 * textures * codec.bytes(mip.shape[1], mip.shape[0]) / stack.pixels.size
                if PEER_RATES[0] <= rate <= PEER_RATES[1]:
                    settings = {"block": f"{codec.block[0]}x{codec.block[1]}", "mip": level}
                    point = self.point(
                        stack, codec.family, codec.version, settings,
                        lambda c=codec, at=level: (*blocks.point(stack.pixels, channels, c, at), {}),
                    )  # fmt: skip
                    found.setdefault(codec.family, []).extend([point] if point else [])
        return found

    def together(self, stack: Stack, parts: str = "auto") -> list[dict[str, Any]]:
        """Points of igs, all maps in one file, in parts as they are found, or in one part."""
        o = self.options
        points = []
        for rate in o.rates:
            settings = {"bppc": rate, "effort": o.effort} | ({} if parts == "auto" else {"parts": parts})
            run = lambda r=rate: stacks.joint(stack, r, o.effort, o.threads, parts)  # noqa: E731
            points.append(self.point(stack, "igs", common.sources_version(), settings, run))
        return [p for p in points if p]

    def apart(self, stack: Stack) -> dict[str, list[dict[str, Any]]]:
        """Points of igs, each map in a file of its own."""
        o = self.options
        found: dict[str, list[dict[str, Any]]] = {}
        for name, part in stack.slices.items():
            alone = Stack(f"{stack.name}/{name}", stack.pixels[..., part], ((name, part.stop - part.start),))
            points = []
            for rate in APART_RATES:
                settings = {"bppc": rate, "effort": o.effort, "map": name}
                run = lambda r=rate, s=alone, n=name: stacks.single(s, n, r, o.effort, o.threads)  # noqa: E731
                points.append(self.point(alone, "igs", common.sources_version(), settings, run))
            found[name] = [p for p in points if p]
        return found


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    content = json.loads(options.results.read_text()) if options.results.exists() else {"runs": {}}
    if not options.render_only:
        bench = Bench(options)
        folders = find(options.folders)
        chosen = spread(folders, options.subset) if options.subset else folders
        run = content["runs"].setdefault(f"size {options.size or 'full'}, effort {options.effort}", {})
        for folder in chosen:
            stack = stacks.load(folder, options.size)
            found = {
                "width": stack.pixels.shape[1],
                "height": stack.pixels.shape[0],
                "maps": dict(stack.maps),
                "igs": bench.together(stack),
                "peers": bench.peers(stack),
                "one": [] if options.no_apart else bench.together(stack, "one"),
                "apart": {} if options.no_apart else bench.apart(stack),
            }
            known = run.get(stack.name, {})
            run[stack.name] = texture_tables.kept(found)
            if options.no_apart:
                run[stack.name] |= {key: known[key] for key in ("one", "apart") if key in known}
        content |= {"machine": common.machine(), "date": common.today()}
        options.results.parent.mkdir(exist_ok=True)
        options.results.write_text(texture_tables.to_json(content))
    print(texture_tables.write(content, options.page))
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
