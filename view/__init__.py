"""igs.view: pictures of what the Gaussians of a file do, and the report of an encode. NumPy and Pillow; no PyTorch.

In file names: scene (an open file as things to draw) → ellipses, maps (what is drawn) → canvas, colours (how it looks)
→ kinds (the pictures of ``igs-view``), log and plot (its curve of an encode); film, charts
and report (what ``igs-encode`` shows of a fit).
"""

from igs.view.film import save_film
from igs.view.kinds import KINDS, draw
from igs.view.report import Report, html_report
from igs.view.scene import Scene

__all__ = ["KINDS", "Report", "Scene", "draw", "html_report", "save_film"]
