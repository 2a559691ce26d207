"""The best checkpoint of a run, kept in its own folder when others are deleted."""

import contextlib
import os
import pathlib
import shutil

import tensorflow as tf

from nets import checkpoints
from whole_files import read_json, write_json

FOLDER = "best"
DESCRIPTION = "best.json"
_BETTER = {
    "top_1": lambda new, old: new > old,
    "top_5": lambda new, old: new > old,
    "cross_entropy": lambda new, old: new < old,
}


def read(run_folder):
    """What best.json says about the best checkpoint: its name, step, split, metric, value, scores; None without one."""
    return read_json(pathlib.Path(run_folder) / FOLDER / DESCRIPTION)


def keep(run_folder, prefix, step, result, metric, split):
    """Keeps a checkpoint if it is better than the best so far on this split; if they are equal, the earlier one stays.

    The files are linked, or copied if the disk has no links, so that deleting the run's own does not affect them. The
    evaluator and all other tools accept the folder, because it has a model.json and a state file.

    Args:
      run_folder: The run's folder.
      prefix: The checkpoint.
      step: Its step.
      result: The result of `Evaluator.evaluate` for it.
      metric: "top_1", "top_5" or "cross_entropy".
      split: The split that was evaluated. Scores on different splits are not compared; the latest split counts.

    Returns:
      Whether it is the best now; False if it was deleted meanwhile, which can happen outside the run's own process.
    """
    prefix, folder = pathlib.Path(prefix), pathlib.Path(run_folder) / FOLDER
    best = read(run_folder)
    comparable = best and (best["metric"], best.get("split", split)) == (metric, split)
    if comparable and not _BETTER[metric](result[metric], best["value"]):
        return False
    folder.mkdir(exist_ok=True)
    # The index goes last: without it, the files are not a checkpoint.
    files = sorted(prefix.parent.glob(f"{prefix.name}.*"), key=lambda path: path.suffix == ".index")
    try:
        for path in files:
            _link(path, folder / path.name)
    except FileNotFoundError:
        files = []
    if not files:
        return False
    with contextlib.suppress(FileNotFoundError):  # Missing if another trainer made the run.
        shutil.copyfile(prefix.parent / checkpoints.DESCRIPTION, folder / checkpoints.DESCRIPTION)
    tf.compat.v1.train.update_checkpoint_state(os.path.abspath(folder), prefix.name, [prefix.name])
    scores = {name: result[name] for name in ("count", "top_1", "top_5", "cross_entropy")}
    description = {"checkpoint": prefix.name, "step": step, "split": split, "metric": metric, "value": result[metric]}
    write_json(folder / DESCRIPTION, description | {"evaluation": scores})
    for path in folder.glob("model.ckpt-*"):
        if not path.name.startswith(f"{prefix.name}."):
            path.unlink()
    return True


def forget(run_folder):
    """Makes the next checkpoint the best, for when the kept one is from a run whose other checkpoints are gone."""
    (pathlib.Path(run_folder) / FOLDER / DESCRIPTION).unlink(missing_ok=True)


def _link(source, target):
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
