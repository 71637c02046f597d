"""Regions of interest and saliency: `python bench/saliency.py [regions] [salient] [matching] [codes] [--effort E]`.

`regions`: PSNR inside and outside a rectangle, by its weight, at equal bytes. `salient`: the same for the fifth of the
pixels that a built-in map calls most salient, by --saliency-weight. `matching`: how many ORB features of a picture are
found again at their places in the decoded one, at 0.2 bpp, igs beside JPEG of at most as many bytes. `codes`: at which
rates a QR code on a photograph can still be read, igs with and without --roi over it, and JPEG. The last two take
`pip install opencv-python-headless`, and no trained weights. Results are printed and go to bench/results/saliency.json.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
from PIL import Image

from igs.decoder import open as open_igs
from igs.encoder import encode, metrics
from igs.encoder.fitting import saliency

KODAK = 5  # the first so many, and the first of each kind of stylised picture
SIDE, REGION = 384, 96  # pixels: the middle of a picture, and the region in it: a sixteenth of the area
BPP = 0.2
WEIGHTS = (1.0, 4.0, 16.0)
SALIENT_WEIGHTS = (0.0, 4.0, 16.0)
FEATURES, NEAR = 1000, 3.0  # ORB features at most, and pixels that one found again may be off
CODE_RATES = (0.05, 0.1, 0.15, 0.2, 0.3)
CODE_TEXT, MODULE = "https://example.org/igs/0123456789", 3  # what the QR code says, and pixels of its smallest square


def middle(path: Path, side: int = SIDE) -> np.ndarray:
    """The middle of a picture, uint8 [side, side, 3]."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    y, x = (max(0, (n - side) // 2) for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[y : y + side, x : x + side])


def pictures() -> list[Path]:
    stylized = [sorted(kind.glob("*.png"))[0] for kind in sorted((common.DATA / "stylized").iterdir()) if kind.is_dir()]
    return common.kodak(KODAK) + stylized


def salient_region(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """The square of REGION pixels that is most salient by the spectral residual, on a grid of 16 pixels."""
    map_ = saliency.spectral_residual(pixels.astype(np.float32) / 255)
    places = [(y, x) for y in range(0, SIDE - REGION + 1, 16) for x in range(0, SIDE - REGION + 1, 16)]
    y, x = max(places, key=lambda p: map_[p[0] : p[0] + REGION, p[1] : p[1] + REGION].mean())
    return x, y, REGION, REGION


def coded(pixels: np.ndarray, **settings: Any) -> tuple[int, np.ndarray]:
    """Bytes of an igs file, and what it decodes to."""
    data = encode(pixels, threads=1, **settings).data
    with open_igs(data) as im:
        return len(data), im.decode()


def jpeg(pixels: np.ndarray, size: int) -> tuple[int, np.ndarray] | None:
    """The best JPEG of at most ``size`` bytes: its length and what it decodes to; None if even quality 1 has more."""
    best = None
    low, high = 1, 95
    while low <= high:
        quality, out = (low + high) // 2, io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG", quality=quality, optimize=True, progressive=True)
        if out.tell() <= size:
            best, low = out.getvalue(), quality + 1
        else:
            high = quality - 1
    if best is None:
        return None
    with Image.open(io.BytesIO(best)) as image:
        return len(best), np.asarray(image.convert("RGB"))


def two_psnrs(decoded: np.ndarray, pixels: np.ndarray, mask: np.ndarray) -> list[float]:
    """dB inside and outside of a mask."""
    a, b = (p.astype(np.float32) / 255 for p in (decoded, pixels))
    return [round(metrics.psnr(a[part], b[part]) or 99.0, 2) for part in (mask, ~mask)]


def regions(effort: int) -> list[dict[str, Any]]:
    rows = []
    for path in pictures():
        pixels = middle(path)
        x, y, w, h = salient_region(pixels)
        mask = np.zeros((SIDE, SIDE), bool)
        mask[y : y + h, x : x + w] = True
        for weight in WEIGHTS:
            size, decoded = coded(pixels, bpp=BPP, effort=effort, roi=[(x, y, w, h, weight)])
            inside, rest = two_psnrs(decoded, pixels, mask)
            row = {"picture": path.stem, "region": [x, y, w, h], "weight": weight, "bytes": size}
            rows.append(show(row | {"roi_psnr": inside, "rest_psnr": rest}))
    for weight in WEIGHTS:
        show(means([r for r in rows if r["weight"] == weight], "weight", "bytes", "roi_psnr", "rest_psnr"))
    return rows


def salient(effort: int) -> list[dict[str, Any]]:
    rows = []
    for path in pictures():
        pixels = middle(path)
        for name, make in saliency.MAPS.items():
            map_ = make(pixels.astype(np.float32) / 255)
            mask = map_ >= np.percentile(map_, 80)
            for weight in SALIENT_WEIGHTS:
                settings = {"init": "saliency", "saliency": name, "saliency_weight": weight}
                size, decoded = coded(pixels, bpp=BPP, effort=effort, **settings)
                inside, rest = two_psnrs(decoded, pixels, mask)
                row = {"picture": path.stem, "map": name, "weight": weight, "bytes": size}
                rows.append(show(row | {"salient_psnr": inside, "rest_psnr": rest}))
    for name in saliency.MAPS:
        for weight in SALIENT_WEIGHTS:
            some = [r for r in rows if (r["map"], r["weight"]) == (name, weight)]
            show({"map": name} | means(some, "weight", "bytes", "salient_psnr", "rest_psnr"))
    return rows


def found_again(original: np.ndarray, decoded: np.ndarray) -> tuple[float, float]:
    """(recall, precision) of ORB features: the share of the original's that have a mutual best match within NEAR
    pixels of their place, and the share of all mutual best matches that are such."""
    import cv2

    orb = cv2.ORB_create(FEATURES)
    grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (original, decoded)]
    (points, words), (others, found) = (orb.detectAndCompute(g, None) for g in grey)
    if words is None or found is None:
        return 0.0, 0.0
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(words, found)
    off = [np.subtract(points[m.queryIdx].pt, others[m.trainIdx].pt) for m in matches]
    right = sum(float(np.hypot(*d)) <= NEAR for d in off)
    return right / len(points), right / max(1, len(matches))


def matching(effort: int) -> list[dict[str, Any]]:
    rows = []
    for path in pictures():
        pixels = middle(path)
        settings: dict[str, dict[str, Any]] = {
            "igs": {},
            "igs, fine-grained saliency": {"saliency": "fine-grained", "saliency_weight": 4.0},
        }
        limit = 0
        for name, extra in settings.items():
            size, decoded = coded(pixels, bpp=BPP, effort=effort, **extra)
            limit = limit or size
            recall, precision = found_again(pixels, decoded)
            rows.append(show(match_row(path, name, size, recall, precision)))
        small = jpeg(pixels, limit)
        recall, precision = found_again(pixels, small[1]) if small else (0.0, 0.0)
        rows.append(show(match_row(path, "JPEG", small[0] if small else 0, recall, precision)))
    for name in (*settings, "JPEG"):
        some = [r for r in rows if r["codec"] == name]
        show({"codec": name} | means(some, "bytes", "recall", "precision"))
    return rows


def match_row(path: Path, codec: str, size: int, recall: float, precision: float) -> dict[str, Any]:
    shares = {"recall": round(recall, 3), "precision": round(precision, 3)}
    return {"picture": path.stem, "codec": codec, "bytes": size, **shares}


def with_code(pixels: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A picture with a QR code, and its white border, in the middle; and where."""
    import cv2

    code = cv2.QRCodeEncoder_create().encode(CODE_TEXT)
    code = np.kron(code, np.ones((MODULE, MODULE), np.uint8))
    h, w = code.shape
    y, x = (pixels.shape[0] - h) // 2, (pixels.shape[1] - w) // 2
    out = pixels.copy()
    out[y : y + h, x : x + w] = code[:, :, None]
    return out, (x, y, w, h)


def is_read(pixels: np.ndarray) -> bool:
    """Whether either of OpenCV's detectors reads the code, from the picture or from one enlarged two or three times."""
    import cv2

    for factor in (1, 2, 3):
        shown = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        for detector in (cv2.QRCodeDetector(), cv2.QRCodeDetectorAruco()):
            try:
                text, *_ = detector.detectAndDecode(shown)
            except cv2.error:  # of a quadrangle without area
                continue
            if text == CODE_TEXT:
                return True
    return False


def codes(effort: int) -> list[dict[str, Any]]:
    rows = []
    for path in pictures():
        pixels, place = with_code(middle(path))
        assert is_read(pixels), f"{path}: the code can't be read before coding either"
        for bpp in CODE_RATES:
            row: dict[str, Any] = {"picture": path.stem, "bpp": bpp}
            for name, roi in (("igs", []), ("igs, roi 16", [(*place, 16.0)])):
                size, decoded = coded(pixels, bpp=bpp, effort=effort, roi=roi)
                row[name] = is_read(decoded)
                row[f"{name} bytes"] = size
            small = jpeg(pixels, int(bpp * SIDE * SIDE / 8))
            row |= {"JPEG": small is not None and is_read(small[1]), "JPEG bytes": small[0] if small else None}
            rows.append(show(row))
    for bpp in CODE_RATES:
        some = [r for r in rows if r["bpp"] == bpp]
        counts = {name: sum(r[name] for r in some) for name in ("igs", "igs, roi 16", "JPEG")}
        show({"bpp": bpp, "of": len(some), **counts})
    return rows


def means(rows: list[dict[str, Any]], *names: str) -> dict[str, Any]:
    return {"mean of": len(rows), **{n: round(float(np.mean([r[n] for r in rows])), 3) for n in names}}


def show(row: dict[str, Any]) -> dict[str, Any]:
    print("  ".join(f"{k}={v}" for k, v in row.items()), flush=True)
    return row


PARTS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "regions": regions, "salient": salient, "matching": matching, "codes": codes,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Regions of interest and saliency.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--effort", type=int, default=2)
    asked = parser.parse_args()
    for name in asked.parts or PARTS:
        rows = PARTS[name](asked.effort)
        setting = {"side": SIDE, "bpp": BPP, "effort": asked.effort, "machine": common.machine()}
        common.keep_section("saliency.json", name, {**setting, "date": common.today(), "rows": rows})


if __name__ == "__main__":
    main()
