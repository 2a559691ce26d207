"""Compares two files of results: the ratio of medians of each configuration, and what the samples support."""

import dataclasses
import json
import statistics
from pathlib import Path

from benchmarks import intervals, results, rounds
from command_line import UserError

# Keys that must be equal in comparable rows, with the value that holds for older files without the key.
_KEYS = {
    "model": None,
    "engine": "tensorflow",
    "pass": None,
    "precision": "float32",
    "batch_size": None,
    "image_size": None,
    "num_classes": None,
    "dataset": "synthetic",
    "forward_mode": "inference",
    "folded": False,
}
_TOO_FEW = "too few samples to tell"
# Parts of an environment that may explain a difference.
_EXPLAINING = ("cpu", "memory_bytes", "kernel", "versions", "threads", "environment_variables", "gpus", "commit")


@dataclasses.dataclass(frozen=True)
class Row:
    """A configuration in both files.

    Attributes:
      label: The configuration in one line.
      medians: In seconds, (first file, second file); None where a file's pass failed.
      ratio: Second over first: above 1, the second is slower. None if one failed.
      interval: An `intervals.Interval` of the ratio; None if a file has fewer than two samples.
      per_round: The ratio of each round, if both were timed in alternation.
    """

    label: str
    medians: tuple
    ratio: float | None
    interval: intervals.Interval | None
    per_round: tuple = ()

    @property
    def verdict(self):
        """faster, slower, no difference that the samples support, too few samples to tell, or which files failed."""
        if self.ratio is None:
            failed = [name for name, median in zip(("A", "B"), self.medians, strict=True) if median is None]
            return f"{' and '.join(failed)} failed"
        if self.interval is None or self.interval.coverage < intervals.CONFIDENCE:
            return _TOO_FEW
        if self.interval.low > 1:
            return "slower"
        if self.interval.high < 1:
            return "faster"
        return "no difference that the samples support"

    def regressed(self, percent):
        """Whether the second file failed where the first did not, or is slower by more than `percent`.

        Raises:
          UserError: If the samples are too few to tell.
        """
        if self.ratio is None:
            return self.medians[0] is not None
        if self.verdict == _TOO_FEW:
            raise UserError(
                f"--fail_on_regression: {self.label} has {_TOO_FEW}: time 7 steps or more in each file, or 6 rounds or "
                "more in one"
            )
        return self.verdict == "slower" and self.ratio > 1 + percent / 100


def read(path):
    """The document in a file that `--json` wrote.

    Raises:
      UserError: If it cannot be read or is another kind of file.
    """
    try:
        document = json.loads(Path(path).read_text())
        for result in document["results"]:
            list(map(float, result["step_seconds"]))
            key_of(result)
    except OSError as error:
        raise UserError(f"--compare {path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"--compare {path} is no file of step times, as --json writes them ({error!r})") from error
    return document


def key_of(result):
    """A tuple that is equal for comparable results."""
    return tuple(result[name] if default is None else result.get(name, default) for name, default in _KEYS.items())


def compare(first, second):
    """Compares the results that both documents have.

    Args:
      first, second: Documents as `read` returns them.

    Returns:
      A list of Row in the order of the first, and a list of labels of configurations in only one file.

    Raises:
      UserError: If they have nothing in common.
    """
    ours, theirs = _steps_by_key(first), _steps_by_key(second)
    rows = [_row(_label(key), ours[key], theirs[key]) for key in ours if key in theirs]
    if not rows:
        raise UserError(
            "--compare: the two files have no configuration in common; time the same network, pass, batch, image size, "
            "precision, engine and classes in both"
        )
    return rows, [_label(key) for key in [*ours, *theirs] if (key in ours) != (key in theirs)]


def _steps_by_key(document):
    """{key: step times}; those of a run with rounds that was interrupted are in a row for each round."""
    steps = {}
    for result in document["results"]:
        steps.setdefault(key_of(result), []).extend(result["step_seconds"])
    return steps


def compare_rows(document):
    """Compares the rows of one document, each with the first of the same pass, batch size and image size.

    They were timed in alternation, so each round gives a ratio of medians, whatever the machine did between the rounds.

    Returns:
      A list of Row: the median of those ratios, with its interval.

    Raises:
      UserError: If there is nothing to compare, or the rows were not timed in rounds.
    """
    groups = {}
    for row in document["results"]:
        groups.setdefault((row["pass"], row["batch_size"], row["image_size"]), []).append(row)
    pairs = [(group[0], other) for group in groups.values() for other in group[1:]]
    if not pairs:
        raise UserError("--compare: one file, with no two rows of the same pass, batch size and image size; give two")
    return [_row_of_rounds(*pair) for pair in pairs]


def _row_of_rounds(base, row):
    keys = key_of(base), key_of(row)
    differing = [f"{name} {value}" for name, value, other in zip(_KEYS, *keys, strict=True) if value != other]
    label = f"{_label(keys[1])}, against {', '.join(differing)}"
    medians = tuple(statistics.median(one["step_seconds"]) if one["step_seconds"] else None for one in (base, row))
    if None in medians:
        return Row(label, medians, None, None)
    counts = [one.get("round_steps", ()) for one in (base, row)]
    if not counts[0] or len(counts[0]) != len(counts[1]):
        raise UserError("--compare: one file, whose rows took no turns; time them with --rounds, or give two files")
    rates = [[1 / statistics.median(turn) for turn in results.from_json(one).rounds] for one in (base, row)]
    ratio = rounds.compare(label, *rates)
    return Row(label, medians, ratio.median, ratio.interval, ratio.per_round)


def describe(rows, alone, documents):
    """Yields the lines of a comparison: machine differences, a line for each row, configurations in only one file."""
    for name in _EXPLAINING:
        values = [document.get("environment", {}).get(name) for document in (documents[0], documents[-1])]
        if values[0] != values[1]:
            yield f"# {name} differs: A {json.dumps(values[0])}, B {json.dumps(values[1])}"
    for row in rows:
        if row.ratio is None:
            yield f"{row.label}: {row.verdict}"
            continue
        interval = intervals.describe(row.interval) if row.interval else "no interval"
        interval += f", n {len(row.per_round)} rounds" if row.per_round else ""
        before, after = row.medians
        yield f"{row.label}: {before:.6f} s -> {after:.6f} s, B/A {row.ratio:.3f} ({interval}): {row.verdict}"
    for label in alone:
        yield f"# in one file only: {label}"


def _row(label, before, after):
    medians = tuple(statistics.median(times) if times else None for times in (before, after))
    if None in medians:
        return Row(label, medians, None, None)
    # The samples count as independent: what slowed a whole run down does not show in either file's spread.
    return Row(label, medians, medians[1] / medians[0], intervals.of_ratio(after, before))


def _label(key):
    known = dict(zip(_KEYS, key, strict=True))
    more = [] if known["dataset"] == "synthetic" else [f"images of {known['dataset']}"]
    more += ["folded"] if known["folded"] else []
    more += [] if known["forward_mode"] == "inference" else [f"norms of {known['forward_mode']}"]
    return ", ".join(
        [
            f"{known['model']} {known['pass']}",
            known["engine"],
            known["precision"],
            f"batch {known['batch_size']}",
            f"{known['image_size']} x {known['image_size']}",
            *more,
        ]
    )
