"""How step times grow with depth, batch size and resolution, and whether they grow as they should."""

import re
from typing import NamedTuple

import numpy as np

from benchmarks.results import PASSES
from reports import benchmark_files

LEAST_R2 = 0.99
MOST_BATCH_SPREAD = 0.10
MOST_PIXEL_SPREAD = 0.08
BATCHES = (16, 64)
SIZES = (160, 320)


class Series(NamedTuple):
    """Rows of one file that differ in only one feature, in the order of that.

    Attributes:
      label: What distinguishes it from other series, text.
      rows: At least two benchmark_files.Row.
    """

    label: str
    rows: list


class Fit(NamedTuple):
    """A measure of a series and its bound.

    Attributes:
      what: The law, text.
      series: Label of the series.
      figure: R2, or largest over smallest minus 1.
      text: The figure with the values it was computed from.
      holds: Whether the bound holds; None if the series does not span the range that the bound is for.
    """

    what: str
    series: str
    figure: float
    text: str
    holds: bool | None


def depth_of(row):
    """The number at the end of a network's name; 0 if there is none."""
    number = re.search(r"\d+$", row.result.setup.model)
    return int(number[0]) if number else 0


def family_of(row):
    """A network's name without its depth."""
    return re.sub(r"_\d+$", "", row.result.setup.model)


def multiply_adds_of(row):
    """Multiply-adds of a step, in all passes over the batch."""
    return row.result.setup.multiply_adds * row.result.setup.batch_size * PASSES[row.result.pass_name].forwards


def batch_of(row):
    """Images in a step."""
    return row.result.setup.batch_size


def size_of(row):
    """Side of the images in pixels."""
    return row.result.setup.image_size


def pixel_nanoseconds_of(row):
    """The median step time for one pixel of one image."""
    return 1e9 * row.result.summary.median / (batch_of(row) * size_of(row) ** 2)


def along(rows, feature, value):
    """The series of rows along a feature.

    Args:
      rows: A list of benchmark_files.Row.
      feature: model, batch or size: what differs within a series; for model, the depth differs.
      value: A function from a row to its place in the series.

    Returns:
      A list of Series.
    """
    groups = {}
    for row in rows:
        described = benchmark_files.features(row)
        described[feature] = family_of(row) if feature == "model" else ""
        groups.setdefault(tuple(described.items()), []).append(row)
    series = {key: sorted(group, key=value) for key, group in groups.items() if len(set(map(value, group))) > 1}
    if not series:
        return []
    names = benchmark_files.labels_of([dict(key) for key in series])
    return [Series(name, group) for name, group in zip(names, series.values(), strict=True)]


def line_through(series):
    """Slope (seconds per multiply-add), intercept (seconds) and R2 of medians against multiply-adds."""
    work = np.array([multiply_adds_of(row) for row in series.rows], float)
    seconds = np.array([row.result.summary.median for row in series.rows])
    slope, intercept = np.polyfit(work, seconds, 1)
    residual = ((seconds - slope * work - intercept) ** 2).sum()
    total = ((seconds - seconds.mean()) ** 2).sum()
    return slope, intercept, 1 - residual / total if total else 1.0


def within(series, value, limits):
    """The rows of a series whose place lies within the limits, both included."""
    return [row for row in series.rows if limits[0] <= value(row) <= limits[1]]


def fits(rows):
    """Every Fit that the rows allow, as a list."""
    found = []
    for series in along(rows, "model", depth_of):
        if len(set(map(multiply_adds_of, series.rows))) > 2:  # Two points always lie on a line.
            slope, intercept, r2 = line_through(series)
            text = (
                f"R2 {r2:.4f} of {len(series.rows)} depths; slope {2e-9 / slope:.1f} GFLOP/s, at 0 {intercept:+.3f} s"
            )
            what = f"time is linear in multiply-adds, R2 at least {LEAST_R2:g}"
            found.append(Fit(what, series.label, r2, text, bool(r2 >= LEAST_R2)))
    for series in along(rows, "batch", batch_of):
        what = f"images/s are within {MOST_BATCH_SPREAD:.0%} for batches {BATCHES[0]} to {BATCHES[1]}"
        found += _spread(series, what, batch_of, BATCHES, lambda row: row.result.images_per_second, MOST_BATCH_SPREAD)
    for series in along(rows, "size", size_of):
        what = f"time a pixel is within {MOST_PIXEL_SPREAD:.0%} from {SIZES[0]} to {SIZES[1]} px"
        found += _spread(series, what, size_of, SIZES, pixel_nanoseconds_of, MOST_PIXEL_SPREAD)
    return found


def _spread(series, what, place, limits, value, bound):
    rows = within(series, place, limits)
    if len(rows) < 2:
        return []
    values = [value(row) for row in rows]
    spread = max(values) / min(values) - 1
    places = [place(row) for row in rows]
    holds = spread <= bound if (places[0], places[-1]) == limits else None
    numbers = ", ".join(f"{where}: {number:.4g}" for where, number in zip(places, values, strict=True))
    return [Fit(what, series.label, spread, f"{spread:.1%} ({numbers})", holds)]
