"""Rate and distortion of igs and its peers: measures what is missing and writes docs/rate-distortion.md.

python bench/rate_distortion.py [FOLDER…] [--subset N] [--rates 0.1,0.2] [--effort E] [--only igs,webp,…] [--workers W]

A folder holds pictures, or sub-folders of pictures, which become its categories; without one the sets beside the
checkout are taken (kodak, stylized). Every point (picture × codec × setting) is kept in bench/cache, keyed by the
picture, the codec's version and its settings (igs' version is a hash of its sources), so that a run can be stopped
and started again; --accept-stale takes older versions' points too. bench/results/rate_distortion.json gathers the
points, the document is made of that file alone (--render-only). A trial at other rates or efforts wants its own
--results and --page. --status says how far the cache is. A full run takes hours, nearly all of them in the Gaussian
codecs.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tomllib
from collections import Counter
from pathlib import Path

import common
from rd import document, measure, results, sets, timing
from rd.codecs import CLASSICAL, Codec
from rd.gaussians import Gaussians, presets
from rd.measure import Bench, Job
from rd.neural import NETWORKS

RESULTS = common.RESULTS / "rate_distortion.json"
PAGE = common.REPO / "docs" / "rate-distortion.md"
CACHE = common.REPO / "bench" / "cache" / "rate_distortion"
TECHNIQUES = Path(__file__).resolve().parent / "rd" / "techniques.toml"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "folders", nargs="*", type=Path, help="folders of pictures (default: the sets beside the checkout)"
    )
    parser.add_argument("--subset", type=int, metavar="N", help="only N pictures of each set, evenly spread")
    parser.add_argument("--rates", type=_numbers, metavar="B,…", help="bits per pixel in place of each set's own")
    parser.add_argument("--more-rates", type=_numbers, metavar="B,…", help="further ones, for curves but not BD-rates")
    parser.add_argument("--effort", type=int, metavar="E", help="igs-encode's effort (default: its own)")
    parser.add_argument("--only", metavar="CODEC,…", help="these codecs, and `ablation`, only; --list names them")
    parser.add_argument("--everywhere", action="store_true", help="dear codecs on all pictures, not on a few")
    parser.add_argument("--workers", type=int, default=1, help="processes; more than one make times meaningless")
    parser.add_argument("--accept-stale", action="store_true", help="take points of other versions of a codec as well")
    parser.add_argument("--lpips-weights", metavar="FILE", help="state dict of LPIPS (AlexNet): adds that metric")
    parser.add_argument(
        "--no-flip", action="store_true", help="leave FLIP for a later run: it takes longer than the rest"
    )
    parser.add_argument("--no-times", action="store_true", help="skip timing, which wants an otherwise idle machine")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="JSON")
    parser.add_argument(
        "--page", type=Path, default=PAGE, metavar="MD", help="the document; plots go beside it into images/"
    )
    parser.add_argument("--no-page", action="store_true", help="measure only")
    parser.add_argument("--render-only", action="store_true", help="make the document of the results as they are")
    parser.add_argument("--cached", action="store_true", help="measure nothing: take what is all there")
    parser.add_argument("--status", action="store_true", help="say how many points are there, and stop")
    parser.add_argument("--list", action="store_true", help="name the codecs, and what can't run here, and stop")
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(sorted(float(x) for x in text.split(",")))


def all_codecs(effort: int | None = None) -> list[Codec]:
    """Every codec known, the cheap ones first."""
    return [*CLASSICAL, *NETWORKS, *presets(effort)]


def select(codecs: list[Codec], only: str | None) -> tuple[list[Codec], bool]:
    """The codecs asked for, and whether the ablation is. Raises SystemExit for a name that doesn't exist."""
    if not only:
        return codecs, True
    names = set(only.split(","))
    unknown = names - {c.name for c in codecs} - {"ablation"}
    if unknown:
        raise SystemExit(f"rate_distortion: no codec {sorted(unknown)[0]!r}; --list names them")
    return [c for c in codecs if c.name in names], "ablation" in names


def techniques(path: Path, picture_sets: list[sets.PictureSet], effort: int | None) -> dict[str, tuple[str, list[Job]]]:
    """Rows of the ablation: name → (options, jobs on those of its pictures that are in the run's sets)."""
    data = tomllib.loads(path.read_text())
    rates = tuple(float(r) for r in data["rates"])
    rows = {}
    for row in data["row"]:
        codec = Gaussians(f"ablation: {row['name']}", row["name"], tuple(row["options"]), effort=effort, curve=False)
        profile = sets.Profile(rates, (), max(rates), some=0, few=0)
        jobs = [Job(p, profile, codec) for s in picture_sets for p in s.pictures if p.name in data["pictures"]]
        rows[row["name"]] = (" ".join(row["options"]), jobs)
    return rows


def folders(given: list[Path]) -> list[Path]:
    chosen = given or [f for f in (common.DATA / "kodak", common.DATA / "stylized") if f.is_dir()]
    if not chosen:
        raise SystemExit("rate_distortion: the picture sets are not beside this checkout; give folders of pictures")
    return chosen


def runnable(codecs: list[Codec], content: dict) -> list[Codec]:
    """Those that work here; for the others a line, which the document repeats as long as it has no points of them."""
    kept = []
    for codec in codecs:
        reason = codec.missing()
        if reason:
            print(f"skipped {codec.name}: {reason}", flush=True)
            content["skipped"][codec.name] = f"{codec.label}: {reason}"
        else:
            content["skipped"].pop(codec.name, None)
            kept.append(codec)
    return kept


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    content = results.load(options.results)
    if options.render_only:
        document.write(content, options.page)
        return 0
    codecs, ablation = select(all_codecs(options.effort), options.only)
    if options.list:
        for codec in codecs:
            print(f"{codec.name:16} {codec.label:32} {codec.missing() or codec.version}")
        return 0
    try:
        chosen = options.rates, options.subset, options.more_rates
        picture_sets = [sets.find(folder, *chosen) for folder in folders(options.folders)]
    except (OSError, ValueError) as error:
        raise SystemExit(f"rate_distortion: {error}") from None
    codecs = runnable(codecs, content)
    jobs = measure.jobs(picture_sets, codecs, options.everywhere)
    rows = techniques(TECHNIQUES, picture_sets, options.effort) if ablation else {}
    names = list(rows)
    rows = {name: row for name, row in rows.items() if row[1] and runnable([row[1][0].codec], content)}
    jobs += [job for _, row_jobs in rows.values() for job in row_jobs]
    peek = options.status or options.cached
    bench = Bench(options.cache, options.accept_stale, options.lpips_weights, peek, options.no_flip)
    failures = run(bench, jobs, rows, content, options)
    if options.status:
        return 0
    if names:  # in the table's order, without rows that it no longer has
        content["ablation"] = {n: content["ablation"][n] for n in names if n in content["ablation"]}
    if not (options.no_times or options.cached):
        content["times"] = timing.measure(codecs, picture_sets, content["times"])
    results.add_sets(content, picture_sets)
    results.save(content, options.results, common.machine())
    if not options.no_page:
        document.write(content, options.page)
    for line in failures:
        print(f"failed: {line}", file=sys.stderr)
    return 4 if failures else 0


def run(bench: Bench, jobs: list[Job], rows: dict, content: dict, options: argparse.Namespace) -> list[str]:
    """Run or look up every job and put its points into the results; what failed comes back as lines."""
    failures: list[str] = []
    complete, total, points = Counter[str](), Counter[str](), Counter[str]()
    for done, outcome in enumerate(measure.run_all(bench, jobs, 1 if bench.peek else options.workers), 1):
        name = outcome.job.codec.name
        total[name] += 1
        complete[name] += outcome.complete
        points[name] += len(outcome.points)
        failures += outcome.failures
        if bench.peek and (options.status or not outcome.complete):
            continue
        technique = name.removeprefix("ablation: ")
        if technique != name:
            results.add_row(content, technique, rows[technique][0], outcome)
        else:
            results.add_curve(content, outcome)
        if outcome.measured:
            print(f"{done}/{len(jobs)} {name} {outcome.job.picture.name}: {outcome.measured} new points", flush=True)
    if bench.peek:
        for name in total:
            print(f"{name:32} {complete[name]:3} of {total[name]:3} pictures complete, {points[name]} points")
    return failures


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
