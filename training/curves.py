"""The curves of a run as lines of JSON, which outlive the process: a resumed run has one continuous curve."""

import json
import pathlib

import whole_files
from command_line import naming_what_cannot_be_written

FILE = "curves.jsonl"
TRAIN, EVALUATION = "train", "evaluation"


def read(folder):
    """The rows of a run's folder, a list of dicts in the order of writing; [] without the file.

    If a network was scored again after recalibrating batch norm, the last row counts.

    Rows of kind "train" hold the means over the last `steps` steps: step, steps, loss, cross_entropy, top_1,
    learning_rate, images_per_second (None when not known) and, in float16, loss_scale and dropped (share of the steps).
    Rows of kind "evaluation" hold step, split, count, top_1, top_5, cross_entropy. Both hold `seconds`, which
    `Meter.take_seconds` gave since the row before.
    """
    path, rows = pathlib.Path(folder) / FILE, {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # Cut off when a process ended.
                break
            rows[_key(row)] = row
    return list(rows.values())


class Curves:
    """Writes the rows of one process; steps that are repeated are written once."""

    def __init__(self, folder, first_step):
        """Continues the file in a run's folder.

        Args:
          folder: The run's folder.
          first_step: Steps done before. Rows past it are from steps that a killed process did but could not save.
        """
        self._path = pathlib.Path(folder) / FILE
        rows = [row for row in read(folder) if row["step"] <= first_step]
        self._held = {_key(row): row for row in rows}
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        if self._path.exists() and self._path.read_text(encoding="utf-8") != text:
            whole_files.write(self._path, text)

    def add_training(self, step, measured):
        """Adds a row from a meter.Measured."""
        pace, seconds = measured.images_per_second, measured.seconds
        self._add(TRAIN, step, steps=measured.steps, **measured.metrics, images_per_second=pace, seconds=seconds)

    def add_evaluation(self, step, split, result, seconds):
        """Adds a row from the results of `Evaluator.evaluate` and `Meter.take_seconds`."""
        scores = {name: result[name] for name in ("count", "top_1", "top_5", "cross_entropy")}
        self._add(EVALUATION, step, split=split, **scores, seconds=seconds)

    def _add(self, kind, step, **values):
        """Adds a row unless the run has it already, as when its last network is scored again."""
        row = {"kind": kind, "step": step, **values}
        held = self._held.get(_key(row))
        if held and (kind == TRAIN or held | {"seconds": row["seconds"]} == row):
            return
        self._held[_key(row)] = row
        with naming_what_cannot_be_written(self._path), open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{json.dumps(row)}\n")


def _key(row):
    return row["kind"], row["step"], row.get("split")
