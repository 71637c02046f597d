"""Ask a visual question answering model about a picture, before and after coding: what can still be told at a rate?

    python examples/vqa.py photo.png "What is the woman holding?" --model path/to/model --bpp 0.2 --roi 120,80,160,160:8

Encodes the picture, decodes it, and prints the model's answers for the original, for the .igs file and for a JPEG of at
most as many bytes. The model is a local folder in the layout of the transformers library (saved by `save_pretrained`,
weights as safetensors; no pickle is loaded, no code of the model is run, nothing is downloaded). Needs PyTorch and
`pip install transformers`. Exit code 1, with one line that says what is missing, where it can't run.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import igs


def fail(message: str) -> None:
    """End with one line on stderr."""
    print(f"vqa.py: {message}", file=sys.stderr)
    raise SystemExit(1)


def load(folder: Path) -> Any:
    """A function from (picture, question) to an answer."""
    if not (folder / "config.json").is_file():
        fail(f"{folder}: expected a folder with a model of the transformers library, found no config.json")
    try:
        from transformers import pipeline
    except ImportError as error:
        fail(f"the transformers library is missing ({error}): pip install transformers")
    try:
        model = pipeline(
            "visual-question-answering", str(folder), trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "local_files_only": True},
        )  # fmt: skip
    except Exception as error:  # the library raises whatever its parts do
        fail(f"{folder}: not a model for visual question answering ({str(error).splitlines()[0]})")

    def ask(picture: Image.Image, question: str) -> str:
        answers = model(image=picture, question=question)
        best = answers[0] if isinstance(answers, list) else answers
        score = f" ({best['score']:.2f})" if "score" in best else ""
        return f"{best['answer']}{score}"

    return ask


def jpeg(picture: Image.Image, size: int) -> tuple[int, Image.Image] | None:
    """The best JPEG of at most so many bytes, None if there is none."""
    for quality in range(95, 0, -1):
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() <= size:
            return out.tell(), Image.open(out).convert("RGB")
    return None


def region(text: str) -> tuple[float, ...]:
    """X,Y,W,H[:WEIGHT]"""
    place, _, weight = text.partition(":")
    return *(int(v) for v in place.split(",")), *((float(weight),) if weight else ())


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a model about a picture, before and after coding.")
    parser.add_argument("picture", type=Path, help="any picture that Pillow reads")
    parser.add_argument("question")
    parser.add_argument("--model", type=Path, required=True, help="a local folder with the model")
    parser.add_argument("--bpp", type=float, default=0.2, help="bits per pixel of the file (default 0.2)")
    parser.add_argument("--effort", type=int, default=5, help="1 (fast) to 9 (good); default 5")
    parser.add_argument("--roi", type=region, action="append", default=[], metavar="X,Y,W,H[:WEIGHT]", help="repeat")
    asked = parser.parse_args()
    ask = load(asked.model)
    try:
        original = Image.open(asked.picture).convert("RGB")
        encoded = igs.encode(np.asarray(original), bpp=asked.bpp, effort=asked.effort, roi=asked.roi)
    except (OSError, igs.IgsError) as error:
        fail(str(error))
    with igs.open(encoded.data) as im:
        decoded = Image.fromarray(im.decode())
    print(f"original: {ask(original, asked.question)}")
    print(f"igs, {len(encoded.data)} bytes: {ask(decoded, asked.question)}")
    small = jpeg(original, len(encoded.data))
    if small is None:
        print("JPEG: has more bytes at any quality")
    else:
        print(f"JPEG, {small[0]} bytes: {ask(small[1], asked.question)}")


if __name__ == "__main__":
    main()
