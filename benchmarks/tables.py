"""Results as tables: drawn on a terminal; in a file or a pipe, comment lines of words separated by spaces."""

import rich.console
import rich.table

from benchmarks.results import Failure

_NOT_KNOWN = "n/a"
_NAMES = ("model", "engine", "pass", "precision", "batch", "size")
_TIMES = ("n", "mean", "sd", "median", "MAD", "p5", "p95", "p99", "min", "max")
_FIGURES = (
    "images/s",
    "GFLOP/s",
    "of_peak",
    "GB/s",
    "of_copy",
    "G_multiply-adds",
    "M_parameters",
    "peak_MiB",
    "prepare_s",
    "first_step_s",
)


def print_tables(measured, peaks=()):
    """Prints the times of all results, in seconds, and the figures that follow from them.

    Args:
      measured: A list of results.Result and results.Failure.
      peaks: roofline.Peaks, matched to results by precision.
    """
    if not measured:
        return
    for peak in peaks:
        print(
            f"# this machine: {peak.gigaflops_per_second:.1f} GFLOP/s in a {peak.precision} matrix product, "
            f"{peak.gigabytes_per_second:.1f} GB/s of memory",
            flush=True,
        )
    _print_table("seconds a step", "times", *times_table(measured))
    _print_table("at the median", "speed", *figures_table(measured, peaks))


def times_table(measured):
    """The column names of the first table, and its rows as text."""
    return (*_NAMES, *_TIMES), [[*_name(one), *_times(one)] for one in measured]


def figures_table(measured, peaks=()):
    """The column names of the second table, and its rows as text."""
    peaks = {peak.precision: peak for peak in peaks}
    return (*_NAMES, *_FIGURES), [[*_name(one), *_figures(one, peaks)] for one in measured]


def _print_table(title, first_word, header, rows):
    console = rich.console.Console(highlight=False)
    if console.is_terminal:
        table = rich.table.Table(title=title)
        for number, name in enumerate(header):
            table.add_column(name.replace("_", " "), justify="left" if number < 4 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    lines = [(first_word, *header), *((first_word, *row) for row in rows)]
    lines = [[cell.replace(" ", "_") for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        print(f"# {'  '.join(cells).rstrip()}", flush=True)


def _name(one):
    setup = one.configuration if isinstance(one, Failure) else one.setup
    pass_name = one.pass_name
    if pass_name == "forward" and setup.folded:
        pass_name = "forward,folded"
    elif pass_name == "forward" and setup.forward_mode != "inference":
        pass_name = f"forward,{setup.forward_mode}"
    return [setup.model, setup.engine, pass_name, setup.precision, str(setup.batch_size), str(setup.image_size)]


def _times(one):
    if isinstance(one, Failure):
        return ["out of memory", *[_NOT_KNOWN] * (len(_TIMES) - 1)]
    summary = one.summary
    seconds = (
        summary.mean,
        summary.standard_deviation,
        summary.median,
        summary.median_absolute_deviation,
        summary.percentile_5,
        summary.percentile_95,
        summary.percentile_99,
        summary.minimum,
        summary.maximum,
    )
    return [str(summary.count), *(_NOT_KNOWN if value is None else f"{value:.6f}" for value in seconds)]


def _figures(one, peaks):
    if isinstance(one, Failure):
        return [_NOT_KNOWN] * len(_FIGURES)
    setup, peak = one.setup, peaks.get(one.setup.precision)
    memory = one.peak_memory_bytes
    return [
        f"{one.images_per_second:.2f}",
        f"{one.gigaflops_per_second:.2f}",
        f"{one.gigaflops_per_second / peak.gigaflops_per_second:.1%}" if peak else _NOT_KNOWN,
        f"{one.gigabytes_per_second:.3f}",
        f"{one.gigabytes_per_second / peak.gigabytes_per_second:.1%}" if peak else _NOT_KNOWN,
        f"{setup.multiply_adds / 1e9:.4f}",
        f"{setup.parameters / 1e6:.3f}",
        f"{memory / 2**20:.0f}" if memory else _NOT_KNOWN,
        f"{one.prepare_seconds:.2f}",
        f"{one.first_step_seconds:.2f}",
    ]
