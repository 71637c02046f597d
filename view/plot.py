"""The convergence of a fit as a figure for papers and slides, by Matplotlib (the extra ``view``)."""

from __future__ import annotations

import io
from collections.abc import Sequence

from igs.format.errors import Unsupported
from igs.view.colours import FAINT, INK, PAPER
from igs.view.log import Entry

_BLUE = "#3b5bdb"


def formats() -> tuple[str, ...]:
    """What a figure can be written as."""
    return ("png", "svg", "pdf")


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def plot_convergence(entries: Sequence[Entry], kind: str) -> bytes:
    """PSNR over the steps, the number of Gaussians below, as the bytes of a figure: png, svg or pdf.

    Raises Unsupported without Matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unsupported('the convergence plot needs Matplotlib: pip install "igs-codec[view]"') from error
    from matplotlib import rc_context

    # Text as text, and nothing that changes from run to run: the same log gives the same bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "igs", "font.size": 10}):
        figure = Figure(figsize=(8, 5), dpi=160, layout="constrained", facecolor=_hex(PAPER))
        FigureCanvasAgg(figure)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        steps = [e.step for e in entries]
        measured = [(e.step, e.psnr) for e in entries if e.psnr is not None]
        upper.plot([s for s, _ in measured], [p for _, p in measured], color=_BLUE, linewidth=1.8)
        upper.set_ylabel("PSNR of the fit, dB")
        lower.step(steps, [e.num_gaussians for e in entries], where="post", color=_hex(INK), linewidth=1.4)
        lower.fill_between(steps, [e.num_gaussians for e in entries], step="post", color=_hex(INK), alpha=0.08)
        lower.set_ylim(bottom=0)
        lower.set_ylabel("Gaussians")
        lower.set_xlabel("step")
        for axes in (upper, lower):
            axes.set_facecolor("none")
            axes.tick_params(colors=_hex(FAINT), which="both")
            for name, spine in axes.spines.items():
                spine.set_visible(name == "bottom")
                spine.set_color(_hex(FAINT))
            axes.margins(x=0.01)
        upper.grid(axis="y", color=_hex(FAINT), alpha=0.25)
        out = io.BytesIO()
        metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
        figure.savefig(out, format=kind, metadata=metadata)
        return out.getvalue()
