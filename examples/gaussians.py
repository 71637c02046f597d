"""Draws the Gaussians of an .igs file over a faint copy of its picture, and prints what each attribute costs.

    python examples/gaussians.py picture.igs gaussians.png --sample 500

Needs no PyTorch. The kinds of picture are those of igs-view (docs/igs-view.md).
"""

import argparse

from igs.format import bits_by_attribute
from igs.view import Scene, draw
from igs.view.kinds import Options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--sample", type=int, help="draw so many of the Gaussians (default: all)")
    given = parser.parse_args()

    with Scene(given.input) as scene:
        sheet = draw("ellipses", scene, Options(on="picture", sample=given.sample, bare=True))
        sheet.save(given.output)
        for name, bits in bits_by_attribute(scene.reader).items():
            print(f"{name:9} {bits / scene.reader.num_gaussians:6.2f} bits per Gaussian")


if __name__ == "__main__":
    main()
