"""Figures of growth and of contestants measured in alternation; each function returns PNG bytes."""

import statistics

import numpy as np

from reports import growth
from reports.benchmark_figures import COLORS
from reports.drawing import GREY, new_figure, png


def depth_figure(series):
    """Median step times against layers, and against multiply-adds with a fitted line."""
    figure, (by_depth, by_work) = new_figure(10.4, 4.0, panels=2)
    for one, color in _colored(series):
        _draw_times(by_depth, one, growth.depth_of, color)
        work = np.array([growth.multiply_adds_of(row) for row in one.rows]) / 1e9
        by_work.plot(work, [row.result.summary.median for row in one.rows], "o", color=color, markersize=5)
        if len(set(work)) > 2:
            slope, intercept, r2 = growth.line_through(one)
            ends = np.array([0, work.max()])
            label = f"{one.label}: R2 {r2:.4f}"
            by_work.plot(ends, 1e9 * slope * ends + intercept, color=color, linewidth=1.0, label=label)
    by_depth.set(xlabel="layers", ylabel="seconds a step", ylim=(0, None))
    by_work.set(xlabel="G multiply-adds a step", ylabel="seconds a step", ylim=(0, None), xlim=(0, None))
    return _finished(figure, by_depth, by_work)


def batch_figure(series):
    """Median step times and images/s against the batch size."""
    figure, (times, rates) = new_figure(10.4, 4.0, panels=2)
    for one, color in _colored(series):
        _draw_times(times, one, growth.batch_of, color)
        _draw_bound(rates, one, growth.batch_of, growth.BATCHES, _images_per_second, growth.MOST_BATCH_SPREAD, color)
    places = sorted({growth.batch_of(row) for one in series for row in one.rows})
    for axes in (times, rates):
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, places, minor=False)
        axes.set(xlabel="images a step", ylim=(0, None))
    times.set_ylabel("seconds a step")
    rates.set_ylabel("images/s")
    return _finished(figure, times, rates)


def size_figure(series):
    """Median step times and the time per pixel against the image size."""
    figure, (times, pixels) = new_figure(10.4, 4.0, panels=2)
    for one, color in _colored(series):
        _draw_times(times, one, growth.size_of, color)
        bound = growth.MOST_PIXEL_SPREAD
        _draw_bound(pixels, one, growth.size_of, growth.SIZES, growth.pixel_nanoseconds_of, bound, color)
    places = sorted({growth.size_of(row) for one in series for row in one.rows})
    for axes in (times, pixels):
        axes.set_xticks(places)
        axes.set(xlabel="side of the image, pixels", ylim=(0, None))
    times.set_ylabel("seconds a step")
    pixels.set_ylabel("nanoseconds a pixel")
    return _finished(figure, times, pixels)


def turns_figure(turns):
    """The value of each contestant in each round, and the ratios with their intervals."""
    height = 1.2 + max(2.2, 0.55 * len(turns.ratios), 0.25 * len(turns.values))
    figure, (by_round, ratios) = new_figure(10.4, height, panels=2)
    for index, (name, values) in enumerate(turns.values.items()):
        color = COLORS[index % len(COLORS)]
        label = f"{name}: median {statistics.median(values):.4g}"
        by_round.plot(range(1, len(values) + 1), values, "o-", color=color, markersize=4, linewidth=1.0, label=label)
    by_round.set(xlabel="round", ylabel=turns.unit, ylim=(0, None))
    by_round.xaxis.get_major_locator().set_params(integer=True)
    ratios.axvline(1, color=GREY, linewidth=1.0, linestyle=":")
    places = list(range(len(turns.ratios), 0, -1))
    for place, ratio in zip(places, turns.ratios, strict=True):
        ratios.plot(ratio.per_round, [place] * len(ratio.per_round), "o", color=GREY, markersize=4, alpha=0.5)
        if ratio.interval:
            ends = [ratio.interval.low, ratio.interval.high]
            ratios.plot(ends, [place, place], color=COLORS[0], linewidth=2.5, solid_capstyle="butt")
        ratios.plot(ratio.median, place, "D", color=COLORS[0], markersize=6)
        text, where = f"{ratio.label}: {ratio.median:.3f}", ratios.get_yaxis_transform()
        ratios.annotate(text, (0.01, place), (0, 8), where, "offset points", fontsize=8)
    ratios.set(yticks=[], xlabel="; ".join(filter(None, ("ratio", turns.meaning))), ylim=(0.5, len(places) + 0.6))
    ratios.spines["left"].set_visible(False)
    ratios.grid(False, axis="y")
    ratios.grid(True, axis="x", color="#eceef2", linewidth=0.8)
    by_round.legend(fontsize=8, loc="best")
    return png(figure)


def _colored(series):
    return [(one, COLORS[index % len(COLORS)]) for index, one in enumerate(series)]


def _images_per_second(row):
    return row.result.images_per_second


def _draw_times(axes, series, place, color):
    """Draws medians, with bars from 5 to 95 % of the steps."""
    summaries = [row.result.summary for row in series.rows]
    medians = np.array([one.median for one in summaries])
    below = medians - [one.percentile_5 for one in summaries]
    above = [one.percentile_95 for one in summaries] - medians
    places = list(map(place, series.rows))
    look = {"fmt": "o-", "markersize": 5, "linewidth": 1.0, "capsize": 3}
    axes.errorbar(places, medians, [below, above], color=color, label=series.label, **look)


def _draw_bound(axes, series, place, limits, value, bound, color):
    """Draws a value that should stay constant, and the band that the bound allows it within the limits."""
    places, values = list(map(place, series.rows)), list(map(value, series.rows))
    axes.plot(places, values, "o-", color=color, markersize=5, linewidth=1.0)
    rows = growth.within(series, place, limits)
    if len(rows) > 1:
        least = min(map(value, rows))
        places = list(map(place, rows))
        axes.fill_between(places, least, least * (1 + bound), color=color, alpha=0.12, linewidth=0)


def _finished(figure, *panels):
    for axes in panels:
        axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=8, frameon=False)
    return png(figure)
