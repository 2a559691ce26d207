"""The figures of an evaluation: the confusion matrix (folded for many classes), and the worst mistakes."""

import io

import matplotlib.colors
import numpy as np
from PIL import Image

from reports.drawing import new_figure, png

_MOST_WITH_NUMBERS = 20
_MOST_WITH_NAMES = 40
MOST_CELLS = 100


def fold(confusion_matrix, most=MOST_CELLS):
    """Sums the rows and columns of neighbouring classes, so that there are at most `most` of them.

    Args:
      confusion_matrix: Counts, [classes, classes], rows: label, columns: predicted.

    Returns:
      The counts, and the number of classes that each row stands for (the last may hold fewer).
    """
    counts = np.asarray(confusion_matrix)
    group = -(-len(counts) // most)
    edges = np.arange(0, len(counts), group)
    return np.add.reduceat(np.add.reduceat(counts, edges, axis=0), edges, axis=1), group


def confusion_figure(confusion_matrix, class_names):
    """Draws the shares of each class's images by predicted class; returns PNG bytes.

    Args:
      confusion_matrix: As in `fold`.
      class_names: A name for each class.
    """
    counts, group = fold(confusion_matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(counts)
    side = min(7.4, max(4.6, 1.6 + 0.42 * size))
    figure, axes = new_figure(side, side * 0.92)
    axes.grid(False)
    # The square root makes small shares visible beside a diagonal near 1.
    scale = matplotlib.colors.PowerNorm(0.5, 0, 1)
    image = axes.imshow(shares, cmap="Blues", norm=scale, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, shrink=0.7, ticks=(0, 0.05, 0.2, 0.5, 1))
    bar.set_label("share of the label's images", fontsize=8, color="#5c6370")
    bar.ax.tick_params(labelsize=7, colors="#5c6370")
    bar.outline.set_visible(False)
    if size <= _MOST_WITH_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.4 else "#1f2430"
                axes.text(column, row, count, ha="center", va="center", fontsize=7.5 if size > 12 else 9, color=color)
    if size == len(class_names) <= _MOST_WITH_NAMES:
        names = [name if len(name) <= 18 else f"{name[:17]}\N{HORIZONTAL ELLIPSIS}" for name in class_names]
        axes.set_xticks(range(size), names, rotation=90)
        axes.set_yticks(range(size), names)
    else:
        ticks = np.arange(0, size, max(1, size // 10))
        axes.set_xticks(ticks, ticks * group, rotation=90)
        axes.set_yticks(ticks, ticks * group)
    unit = "class" if group == 1 else f"class, in groups of {group}"
    axes.set(xlabel=f"predicted {unit}", ylabel=f"label, {unit}" if group > 1 else "label")
    return png(figure)


def picture_png(pixels):
    """The bytes of a uint8 picture, [height, width, 3], as PNG."""
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="png")
    return target.getvalue()


def mistakes_figure(mistakes, class_names):
    """Draws mistakes side by side, each with its label and predicted class; returns PNG bytes.

    Args:
      mistakes: A list of training.mistakes.Mistake, at least one.
      class_names: A name for each class.
    """
    columns = min(6, len(mistakes))
    rows = -(-len(mistakes) // columns)
    figure, _ = new_figure(1.55 * columns, 1.95 * rows)
    figure.clear()
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for panel in panels:
        panel.set_axis_off()
    for panel, mistake in zip(figure.axes, mistakes, strict=False):
        panel.imshow(mistake.picture, interpolation="nearest")
        label, predicted = (_short(class_names[index]) for index in (mistake.label, mistake.predicted))
        panel.set_title(f"{label}\ntaken for {predicted}\n({mistake.probability:.2f})", fontsize=7)
    return png(figure)


def _short(name, most=16):
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
