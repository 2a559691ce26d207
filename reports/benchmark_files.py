"""Reads files that benchmarks wrote with `--json`, and labels their rows for a report."""

import itertools
import json
import pathlib
import statistics
from typing import NamedTuple

from benchmarks import disturbance, results, rounds
from benchmarks.roofline import Peak
from command_line import UserError


class Row(NamedTuple):
    """A results.Result, the name of its file, and its number in the report, from 1."""

    source: str
    result: results.Result
    number: int


class Turns(NamedTuple):
    """Contestants measured in alternation.

    Attributes:
      title, setup: What was measured, text.
      unit: Unit of the values.
      values: {contestant: [a value for each round]}.
      ratios: A list of rounds.Ratio.
      meaning: What a ratio above or below 1 means.
      notes: Lines on missing contestants and on how far results differ.
    """

    title: str
    setup: str
    unit: str
    values: dict
    ratios: list
    meaning: str
    notes: list


class Source(NamedTuple):
    """A file of results.

    Attributes:
      name: A short name, unique in the report.
      environment: As `environment.describe_environment` returns it.
      peaks: A list of roofline.Peak.
      rows: A list of Row.
      failures: A list of results.Failure.
      turns: A list of Turns.
      doubts: Warnings that belong to no row.
    """

    name: str
    environment: dict
    peaks: list
    rows: list
    failures: list
    turns: list
    doubts: list


def read(paths):
    """Reads files of time_forward_backward.py, compare_peers.py, compare_processes.py and time_input_pipeline.py.

    Returns:
      A list of Source; rows are numbered consecutively over all files.

    Raises:
      UserError: If a file cannot be read, is of another kind, or holds no measurement.
    """
    paths = [pathlib.Path(path) for path in paths]
    stems = [path.stem for path in paths]
    names = [path.stem if stems.count(path.stem) == 1 else str(path) for path in paths]
    numbers = itertools.count(1)
    return [_read_one(path, name, numbers) for path, name in zip(paths, names, strict=True)]


def _read_one(path, name, numbers):
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        environment = dict(document["environment"])
        measured = [results.from_json(row) for row in document["results"] if "step_seconds" in row]
        turns = [_turns_of(row) for row in document["results"] if "step_seconds" not in row]
        peaks = [Peak(**peak) for peak in document.get("peaks", [])]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is no file that a script of benchmarks/ wrote with --json ({type(error).__name__}: {error})"
        ) from error
    if not measured and not turns:
        raise UserError(f"{path} has no results: nothing was measured")
    rows = [Row(name, one, next(numbers)) for one in measured if isinstance(one, results.Result)]
    failures = [one for one in measured if isinstance(one, results.Failure)]
    doubts = [disturbance.describe_others(environment.get("others_share"), "before the first step")]
    for row in document["results"]:
        if "step_seconds" not in row:
            doubts.append(disturbance.describe_others(row.get("others_share"), "during the rounds"))
    return Source(name, environment, peaks, rows, failures, _row_turns(rows) + turns, list(filter(None, doubts)))


def _turns_of(row):
    """Makes the Turns of a row of ratios."""
    unit = row.get("unit", "images/s")
    values = row["values" if "values" in row else "images_per_second"]
    if not values or any(not all(map(float, of_one)) for of_one in values.values()):
        raise ValueError("a contestant without values")
    title = row.get("pass") or row["measure"]
    named = row.get("setup") or {
        key: value for key, value in row.items() if isinstance(value, (str, int)) and key not in ("pass", "measure")
    }
    notes = [f"without {name}: {reason}" for name, reason in row.get("missing", {}).items()]
    for name, one in row.get("agreements", {}).items():
        same = "" if one.get("top_1") is None else f", the same class for {one['top_1']:.0%} of the images"
        notes.append(f"{name}: first result differs by {one['difference']:.2g} of the largest value{same}")
    ratios = [rounds.ratio_of(ratio["label"], ratio["per_round"]) for ratio in row["ratios"]]
    meaning = "above 1: the first is faster" if "pass" in row else ""
    meaning = "below 1: the first needs less" if "values" in row else meaning
    setup = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in named.items())
    return Turns(title.replace("_", " "), setup, unit, values, ratios, meaning, notes)


def _row_turns(rows):
    """The Turns of rows measured in alternation, grouped by pass, batch size and image size."""
    groups = {}
    for row in rows:
        setup = row.result.setup
        if len(row.result.rounds) > 1:
            groups.setdefault((row.result.pass_name, setup.batch_size, setup.image_size), []).append(row)
    found = []
    for (pass_name, batch_size, size), group in groups.items():
        if len(group) < 2:
            continue
        names = labels(group)
        medians = [[statistics.median(turn) for turn in row.result.rounds] for row in group]
        rates = [[1 / seconds for seconds in of_one] for of_one in medians]
        ratios = [
            rounds.compare(f"{name} over {names[0]}", rates[0], of_one)
            for name, of_one in zip(names[1:], rates[1:], strict=True)
        ]
        title = f"{results.PASSES[pass_name].label}, batch {batch_size}, {size} px"
        meaning = f"of times: above 1 it is slower than {names[0]}"
        values = dict(zip(names, medians, strict=True))
        found.append(Turns(title, "Medians of the rounds", "seconds a step", values, ratios, meaning, []))
    return found


def features(row):
    """What distinguishes a row from others, {name: text}; the text is empty for the usual case."""
    setup = row.result.setup
    norms = "folded" if setup.folded else ""
    if setup.forward_mode != "inference":
        norms = f"norms of {setup.forward_mode}"
    return {
        "model": setup.model,
        "pass": results.PASSES[row.result.pass_name].label,
        "engine": setup.engine,
        "precision": setup.precision,
        "batch": f"batch {setup.batch_size}",
        "size": f"{setup.image_size} px",
        "norms": norms,
        "images": "random images" if setup.dataset == "synthetic" else f"images of {setup.dataset}",
        "classes": f"{setup.num_classes} classes",
        "source": row.source,
    }


def labels(rows):
    """A label for each row, made of the features in which the rows differ, or else of network and pass."""
    return labels_of([features(row) for row in rows])


def labels_of(described):
    """As `labels`, but from `features` of rows."""
    names = [name for name in described[0] if len({one[name] for one in described}) > 1] or ["model", "pass"]
    return [", ".join(filter(None, (one[name] for name in names))) for one in described]


def common(rows):
    """The features that all rows share, as text."""
    described = [features(row) for row in rows]
    shared = [text for name, text in described[0].items() if len({one[name] for one in described}) == 1]
    return ", ".join(filter(None, shared))
