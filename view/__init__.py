"""igs.view: pictures of what the Gaussians of a file do, and the report of an encode. NumPy and Pillow; no PyTorch.

In file names: scene (an open file as things to draw) → ellipses, maps (what is drawn) → canvas, colours (how it looks)
→ kinds (the pictures of ``igs-view``), log and plot (its curve of an encode).
"""

from igs.view.kinds import KINDS, draw
from igs.view.scene import Scene

__all__ = ["KINDS", "Scene", "draw"]
