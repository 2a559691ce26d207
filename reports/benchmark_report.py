"""A page about what the benchmarks measured, and its figures as files."""

import json
import pathlib
from typing import NamedTuple

import whole_files
from benchmarks import intervals, tables
from benchmarks.results import PASSES
from command_line import UserError
from reports import benchmark_figures, benchmark_files, growth, growth_figures
from reports.page import Fact, figure, folded, page, paragraph, section, table

_HOLDS = {True: "holds", False: "does not hold", None: "not judged: the range was not spanned"}


class Drawn(NamedTuple):
    """A figure: the end of its file's name, PNG bytes, what it shows in words, and a caption."""

    name: str
    png: bytes
    text: str
    caption: str


def write(paths, output):
    """Writes the report on files of results.

    Args:
      paths: Files as `benchmark_files.read` takes them.
      output: A folder for report.html and the figures, or a file name that ends in .html.

    Returns:
      The path of the page.

    Raises:
      UserError: If no file is given, one is of another kind, or the output cannot be written.
    """
    if not paths:
        raise UserError("give one or more files that a benchmark wrote with --json")
    sources = benchmark_files.read(paths)
    output = pathlib.Path(output)
    target, prefix = (output, f"{output.stem}-") if output.suffix == ".html" else (output / "report.html", "")
    sections, drawn = build(sources)
    for one in drawn:
        whole_files.write(target.parent / f"{prefix}{one.name}.png", one.png)
    subtitle = "Of " + ", ".join(pathlib.Path(path).name for path in paths)
    whole_files.write(target, page("Benchmark report", subtitle, _facts(sources), sections))
    return target


def _facts(sources):
    rows = [row for source in sources for row in source.rows]
    ratios = sum(len(turns.ratios) for source in sources for turns in source.turns)
    facts = [Fact("configurations", str(len(rows)))] if rows else []
    facts += [Fact("timed steps", f"{sum(row.result.summary.count for row in rows):,}")] if rows else []
    facts += [Fact("ratios of turns", str(ratios))] if ratios else []
    environments = [source.environment for source in sources]
    return [
        *facts,
        Fact("processor, cores", _common(map(_processor, environments))),
        Fact("TensorFlow", _common(map(_tensorflow, environments))),
        Fact("started", _common(map(_started, environments))),
    ]


def _processor(environment):
    cpu = environment.get("cpu") or {}
    return f"{cpu.get('model', 'not recorded')}, {cpu.get('usable_cores', '?')}"


def _tensorflow(environment):
    return str((environment.get("versions") or {}).get("tensorflow", "not recorded"))


def _started(environment):
    return str(environment.get("started", "not recorded"))[:16].replace("T", " ")


def _common(texts):
    """The text that all sources have."""
    different = dict.fromkeys(texts)
    return next(iter(different)) if len(different) == 1 else "several: see below"


def build(sources):
    """The sections of the page, as HTML, and a list of all Drawn."""
    rows = [row for source in sources for row in source.rows]
    made = [_warnings(sources)]
    drawn = []
    for part in (_growth(rows), _turns(sources), _samples(rows), _roofline(sources)):
        if part:
            html, figures = part
            made.append(html)
            drawn += figures
    return [*made, *_tables(sources), *map(_environment, sources)], drawn


def _warnings(sources):
    found = []
    for source in sources:
        found += [[source.name, "", doubt] for doubt in source.doubts]
        found += [[source.name, str(row.number), text] for row in source.rows for text in row.result.warnings]
        found += [[source.name, "", f"{_name(failure)}: {failure.error}"] for failure in source.failures]
    if not found:
        return section("warnings", "Warnings", paragraph("None was raised while this was measured."))
    note = paragraph("Figures of the rows below are doubtful, for the reasons that are given.")
    return section("warnings", "Warnings", note, table(["file", "row", "warning"], found))


def _name(failure):
    what = failure.configuration
    return f"{what.model}, {PASSES[failure.pass_name].label}, batch {what.batch_size}, {what.image_size} px"


def _growth(rows):
    drawn = []
    depths = growth.along(rows, "model", growth.depth_of)
    batches = growth.along(rows, "batch", growth.batch_of)
    sizes = growth.along(rows, "size", growth.size_of)
    bars = "Points are medians, bars go from the 5th to the 95th percentile of the steps."
    if depths:
        text = "step time against depth and against multiply-adds"
        drawn.append(Drawn("depth", growth_figures.depth_figure(depths), text, f"{bars} Lines: least squares."))
    if batches:
        band = f"Band: {growth.MOST_BATCH_SPREAD:.0%} above the least, for batches of {growth.BATCHES[0]} to"
        caption = f"{bars} {band} {growth.BATCHES[1]}."
        text = "step time and images a second against the batch size"
        drawn.append(Drawn("batch", growth_figures.batch_figure(batches), text, caption))
    if sizes:
        band = f"Band: {growth.MOST_PIXEL_SPREAD:.0%} above the least, from {growth.SIZES[0]} to {growth.SIZES[1]}"
        text = "step time and time a pixel against the image size"
        drawn.append(Drawn("resolution", growth_figures.size_figure(sizes), text, f"{bars} {band} pixels."))
    if not drawn:
        return None
    fits = [[fit.what, fit.series, fit.text, _HOLDS[fit.holds]] for fit in growth.fits(rows)]
    parts = [table(["law", "of", "figure, from medians", "bound"], fits)] if fits else []
    return section("growth", "Growth", *parts, *map(_shown, drawn)), drawn


def _turns(sources):
    drawn, parts = [], []
    turns = [(source, one) for source in sources for one in source.turns]
    for number, (source, one) in enumerate(turns, 1):
        text = f"{one.title}: values of each round, and ratios with their intervals"
        caption = "Dots are rounds, diamonds their medians, bars intervals of the median."
        drawn.append(Drawn(f"turns-{number}", growth_figures.turns_figure(one), text, caption))
        rows = [
            [ratio.label, _number(ratio.median), _interval(ratio.interval), len(ratio.per_round)]
            for ratio in one.ratios
        ]
        parts.append(paragraph(f"{source.name}, {one.title}. {one.setup}."))
        if rows:
            parts.append(table(["ratio", "median", "interval", "rounds"], rows, numbers=range(1, 4)))
        if one.meaning:
            parts.append(paragraph(f"{one.meaning[0].upper()}{one.meaning[1:]}.", quiet=True))
        parts += [paragraph(note, quiet=True) for note in one.notes]
        parts.append(_shown(drawn[-1]))
    return (section("turns", "In turns", *parts), drawn) if turns else None


def _interval(interval):
    return intervals.describe(interval) if interval else ""


def _number(value):
    return "n/a" if value is None else f"{value:.3f}"


def _samples(rows):
    if not rows:
        return None
    text = "step times over the median of their row, a box for each row"
    caption = (
        "Boxes from quarter to quarter, median in red, whiskers from the 5th to the 95th percentile; shaded: 10 %."
    )
    drawn = [Drawn("spread", benchmark_figures.spread_figure(rows), text, caption)]
    text = "every step time against the number of the step"
    caption = "Every timed step in its order; the line is the median, dotted lines part rounds. Axes do not start at 0."
    most = benchmark_figures.MOST_PANELS
    caption += f" The first {most} rows." if len(rows) > most else ""
    drawn.append(Drawn("steps", benchmark_figures.samples_figure(rows), text, caption))
    note = paragraph(f"All rows: {benchmark_files.common(rows)}.", quiet=True)
    return section("steps", "Step times", note, *map(_shown, drawn)), drawn


def _roofline(sources):
    drawn = []
    for number, source in enumerate(sources, 1):
        png = benchmark_figures.roofline_figure(source)
        if png:
            name = "roofline" if len(sources) == 1 else f"roofline-{number}"
            caption = (
                f"{source.name}. Roofs: a large matrix product and a pass over a large array in TensorFlow, in the same"
                " run; yardsticks, no limits: convolutions may have faster kernels, and activations may stay in the"
                " caches. Numbers are those of the rows."
            )
            drawn.append(Drawn(name, png, f"roofline of {source.name}", caption))
    return (section("roofline", "Roofline", *map(_shown, drawn)), drawn) if drawn else None


def _tables(sources):
    for source in sources:
        measured = [row.result for row in source.rows] + source.failures
        if not measured:
            continue
        numbers = [str(row.number) for row in source.rows] + [""] * len(source.failures)
        parts = []
        for title, (columns, rows) in (
            ("Seconds a step", tables.times_table(measured)),
            ("At the median", tables.figures_table(measured, source.peaks)),
        ):
            columns = ["row", *(column.replace("_", " ") for column in columns)]
            rows = [[number, *row] for number, row in zip(numbers, rows, strict=True)]
            parts += [paragraph(title), table(columns, rows, numbers={0, *range(5, len(columns))}, whole=True)]
        peaks = [
            f"{peak.precision}: {peak.gigaflops_per_second:.1f} GFLOP/s in a matrix product, "
            f"{peak.gigabytes_per_second:.1f} GB/s of memory"
            for peak in source.peaks
        ]
        parts += [paragraph(f"This machine, {'; '.join(peaks)}.", quiet=True)] if peaks else []
        yield section(f"table-{source.name}", f"Table of {source.name}", *parts)


def _environment(source):
    rows = [[name.replace("_", " "), _words(value)] for name, value in source.environment.items() if name != "command"]
    command = source.environment.get("command", "not recorded")
    parts = paragraph(f"Command: {command}"), folded("Machine, versions and settings", table(["", ""], rows))
    return section(f"environment-{source.name}", f"How {source.name} was measured", *parts)


def _words(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def _shown(drawn):
    return figure(drawn.png, drawn.text, drawn.caption)
