"""What all figures share: size, colours, lines, and PNG bytes that are the same for the same numbers."""

import io
import logging

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # It logs about its cache on a new machine.

import matplotlib.figure  # noqa: E402 - after setting its log level.

DOTS_PER_INCH = 144
# From the Okabe-Ito palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8a8f98"
_QUIET = "#5c6370"


def new_figure(width, height, panels=1):
    """A figure of a size in inches, and its axes side by side; a single Axes if there is one panel."""
    figure = matplotlib.figure.Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(1, panels)
    for each in [axes] if panels == 1 else axes:
        style(each)
    return figure, axes


def style(axes):
    """Gives axes the quiet look of all figures."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_QUIET)
    axes.tick_params(colors=_QUIET, labelsize=8)
    axes.xaxis.label.set(color=_QUIET, fontsize=9)
    axes.yaxis.label.set(color=_QUIET, fontsize=9)
    axes.title.set_fontsize(10)
    axes.grid(axis="y", color="#eceef2", linewidth=0.8)
    axes.set_axisbelow(True)


def png(figure):
    """The bytes of a figure as PNG."""
    target = io.BytesIO()
    # Without Matplotlib's version, which is not part of the drawing.
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()
