"""Figures of step times: every sample, their spread, and the roofline; each function returns PNG bytes."""

import itertools
import math
import textwrap

import matplotlib.ticker
import numpy as np

from reports import benchmark_files
from reports.drawing import BLUE, GREEN, GREY, ORANGE, RED, new_figure, png, style

COLORS = (BLUE, RED, GREEN, ORANGE, "#cc79a7", "#56b4e9", "#000000", "#b8a900")
MARKERS = {"forward": "o", "forward_backward": "s", "train_step": "D"}
_COLUMNS = 3
# Twelve rows of panels fill a screen or two.
MOST_PANELS = 36


def samples_figure(rows):
    """Every step time against its step number, one panel per row, in the order of measurement."""
    rows = rows[:MOST_PANELS]
    columns = min(_COLUMNS, len(rows))
    lines = math.ceil(len(rows) / columns)
    figure, _ = new_figure(3.6 * columns, 0.3 + 1.7 * lines)
    figure.clear()
    panels = np.ravel(figure.subplots(lines, columns, squeeze=False))
    for panel in panels[len(rows) :]:
        panel.set_axis_off()
    for panel, row, label in zip(panels, rows, benchmark_files.labels(rows), strict=False):
        style(panel)
        seconds = np.array(row.result.step_seconds)
        scale, unit = (1e3, "ms") if seconds.max() < 0.5 else (1.0, "s")
        median = scale * row.result.summary.median
        panel.axhline(median, color=GREY, linewidth=1.0)
        ends = np.cumsum([len(turn) for turn in row.result.rounds])[:-1]
        for end in ends:
            panel.axvline(end - 0.5, color=GREY, linewidth=0.6, linestyle=":")
        panel.plot(scale * seconds, ".", color=BLUE, markersize=5 if len(seconds) < 60 else 3)
        panel.set_title(textwrap.fill(f"{row.number}: {label}", 44), fontsize=8, loc="left")
        panel.set_ylabel(unit, fontsize=8)
        panel.set_ylim(min(0.9 * median, scale * seconds.min() * 0.97), max(1.1 * median, scale * seconds.max() * 1.03))
        panel.xaxis.get_major_locator().set_params(integer=True)
    return png(figure)


def spread_figure(rows):
    """Step times divided by their median: a box between the quartiles, whiskers from 5 to 95 %, and every sample."""
    figure, axes = new_figure(9.0, 0.9 + 0.34 * len(rows))
    places = range(len(rows), 0, -1)
    relative = [np.array(row.result.step_seconds) / row.result.summary.median for row in rows]
    axes.axvspan(0.9, 1.1, color="#eef3f9", zorder=0)
    for place, values in zip(places, relative, strict=True):
        # Spread over the height of the box by their order, not at random.
        offsets = (np.arange(len(values)) * 0.618 % 1 - 0.5) * 0.5
        axes.plot(values, place + offsets, ".", color=BLUE, alpha=0.45, markersize=4, markeredgewidth=0)
    boxes = axes.boxplot(relative, positions=list(places), orientation="horizontal", widths=0.6, whis=(5, 95), sym="")
    for part in ("boxes", "whiskers", "caps"):
        for line in boxes[part]:
            line.set(color="#1f2430", linewidth=0.9)
    for line in boxes["medians"]:
        line.set(color=RED, linewidth=1.4)
    names = [f"{row.number}: {label}" for row, label in zip(rows, benchmark_files.labels(rows), strict=True)]
    axes.set_yticks(list(places), names, fontsize=8)
    axes.set(xlabel="step time / median of its row", ylim=(0.3, len(rows) + 0.7))
    axes.grid(False, axis="y")
    axes.grid(True, axis="x", color="#eceef2", linewidth=0.8)
    return png(figure)


def roofline_figure(source):
    """GFLOP/s of a source's rows against operations per byte, below the machine's roofline.

    None if no row has both figures and a peak.
    """
    peaks = {peak.precision: peak for peak in source.peaks}
    rows = [row for row in source.rows if row.result.setup.activation_values and row.result.setup.precision in peaks]
    if not rows:
        return None
    intensity = [row.result.gigaflops_per_second / row.result.gigabytes_per_second for row in rows]
    speed = [row.result.gigaflops_per_second for row in rows]
    figure, axes = new_figure(9.0, 4.6)
    used = {name: peak for name, peak in peaks.items() if any(row.result.setup.precision == name for row in rows)}
    ridges = [peak.gigaflops_per_second / peak.gigabytes_per_second for peak in used.values()]
    x = np.sort([min([*intensity, *ridges]) / 2.5, *ridges, max([*intensity, *ridges]) * 2.5])
    for (name, peak), line in zip(used.items(), ("-", "--", "-."), strict=False):
        roof = np.minimum(peak.gigaflops_per_second, peak.gigabytes_per_second * x)
        text = f"{name}: {peak.gigaflops_per_second:.0f} GFLOP/s, {peak.gigabytes_per_second:.1f} GB/s"
        axes.plot(x, roof, color="#1f2430", linewidth=1.2, linestyle=line, label=text)
    models = list(dict.fromkeys(row.result.setup.model for row in rows))
    for model, color in zip(models, [COLORS[index % len(COLORS)] for index in range(len(models))], strict=True):
        axes.plot([], [], "o", color=color, label=model)
    passes = list(dict.fromkeys(row.result.pass_name for row in rows))
    for name in passes if len(passes) > 1 else ():
        axes.plot([], [], MARKERS[name], color=GREY, label=name.replace("_", " "))
    # Neighbouring points get their numbers on different sides.
    sides = dict(zip(np.argsort(intensity), itertools.cycle([(5, 4), (-5, -11), (-5, 4), (5, -11)]), strict=False))
    for index, (row, at, reached) in enumerate(zip(rows, intensity, speed, strict=True)):
        color = COLORS[models.index(row.result.setup.model) % len(COLORS)]
        axes.plot(at, reached, MARKERS[row.result.pass_name], color=color, markersize=6, alpha=0.85)
        side = sides[index]
        align = "left" if side[0] > 0 else "right"
        axes.annotate(row.number, (at, reached), side, textcoords="offset points", fontsize=8, ha=align)
    top = max([*speed, *(peak.gigaflops_per_second for peak in used.values())])
    axes.set(xscale="log", yscale="log", xlabel="operations a byte of least traffic", ylabel="GFLOP/s")
    axes.set_ylim(min(speed) / 3, top * 1.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.grid(True, which="major", axis="both", color="#eceef2", linewidth=0.8)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return png(figure)
