"""Checkpoint files keyed by Slim's variable names, and the description beside them.

Files written here are in TensorFlow's V2 format: `tf.compat.v1.train.Saver` reads them, and files that a Saver wrote,
V1 or V2, are read here. `model.json` beside a checkpoint says which network it holds and what input that expects.
"""

import contextlib
import glob
import json
import os
import pathlib
import re
import tempfile

import tensorflow as tf

from command_line import UserError, first_line
from whole_files import to_disk, write_json

DESCRIPTION = "model.json"
NAME = "model.ckpt"  # Of a run's checkpoints, before "-" and the step.
_OF_A_RUN = re.compile(re.escape(NAME) + r"-(\d+)\.index")
AVERAGE = "/ExponentialMovingAverage"  # TensorFlow's suffix for the name of a variable's moving average.
UNFINISHED = ".saving-"  # Prefix of the names of folders in which a checkpoint is being written.

# What TensorFlow's reader raises for damaged files; IndexError if the data end too early.
_UNREADABLE = (tf.errors.OpError, RuntimeError, ValueError, IndexError)
_MEND = "take another copy of it, or remove its files to take the one before"


def write(prefix, values):
    """Writes values under their names; no reader ever sees a part of them.

    Args:
      prefix: Path of the checkpoint: <prefix>.index and <prefix>.data-00000-of-00001 are written.
      values: A dict of name -> tensor, variable (mirrored ones included) or array.

    Raises:
      UserError: If the folder cannot be made or the disk is full. Then nothing has changed, unless the files could not
        be renamed: a checkpoint of the same name may be lost then, and the message says so.
    """
    prefix = pathlib.Path(prefix)
    check_readable_name(prefix)
    state = "; nothing was changed"
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=prefix.parent) as folder:
            part = pathlib.Path(folder) / prefix.name
            tf.raw_ops.SaveV2(
                prefix=str(part),
                tensor_names=list(values),
                shape_and_slices=[""] * len(values),
                tensors=[tf.convert_to_tensor(value) for value in values.values()],
            )
            # The index comes last, and an older one goes first: without it, readers see no checkpoint.
            paths = sorted(pathlib.Path(folder).iterdir(), key=lambda path: path.suffix == ".index")
            for path in paths:
                to_disk(path)
            state = "; a checkpoint of that name that was there before may be gone"
            if (older := prefix.with_name(f"{prefix.name}.index")).exists():
                older.unlink()
            for path in paths:
                path.replace(prefix.parent / path.name)
        # Older checkpoints may be deleted as soon as this one is there.
        with contextlib.suppress(OSError):  # Some file systems refuse it for folders.
            to_disk(prefix.parent)
    except (OSError, tf.errors.OpError) as error:
        reason = first_line(error)
        raise UserError(f"checkpoint {prefix} could not be written: {reason}{state}") from error


def check_readable_name(path):
    """Raises UserError where TensorFlow could not read a checkpoint: it takes its path for a pattern."""
    if "[" in os.fspath(path) or "\\" in os.fspath(path):
        raise UserError(
            f"{path} has a [ or \\ in its name, so TensorFlow could write but not read a checkpoint there; give the "
            "folder another name"
        )


def find(path):
    """Finds the checkpoint that a path refers to.

    Args:
      path: A folder (its newest checkpoint), a prefix, or one of the files of a checkpoint.

    Returns:
      The prefix (the file itself for a V1 file).

    Raises:
      UserError: If there is no checkpoint there.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        newest = newest_in(path)
        if newest is None:
            raise UserError(f"no checkpoint in folder {path}: expected a file named checkpoint and the files it names")
        return newest
    prefix = path
    for ending in (".index", ".meta"):
        prefix = prefix.removesuffix(ending)
    if ".data-" in os.path.basename(prefix):
        prefix = prefix[: prefix.rindex(".data-")]
    if not _is_checkpoint(prefix):
        folder = os.path.dirname(prefix) or "."
        known = sorted(os.path.basename(name)[: -len(".index")] for name in glob.glob(f"{glob.escape(folder)}/*.index"))
        raise UserError(f"no checkpoint at {path}; in its folder: {', '.join(known) or 'none'}")
    return prefix


def newest_in(folder):
    """The prefix of the newest checkpoint in a folder, by TensorFlow's state file or by the steps; None without one.

    Raises:
      UserError: If the state file is damaged.
    """
    try:
        state = tf.train.get_checkpoint_state(folder)
    except ValueError as error:
        known = sorted(path.stem for path in pathlib.Path(folder).glob("*.index"))
        raise UserError(
            f"{os.path.join(folder, 'checkpoint')} is damaged; remove it, and name one of the checkpoints beside it: "
            f"{', '.join(known) or 'there are none'}"
        ) from error
    if state is None:
        steps = steps_in(folder)
        return os.path.join(folder, f"{NAME}-{steps[-1]}") if steps else None
    # The newest may have been removed, to go back to the one before.
    names = [state.model_checkpoint_path, *reversed(state.all_model_checkpoint_paths)]
    # Many programs write full paths, which are wrong once the folder was moved or copied.
    candidates = (path for name in names for path in (os.path.join(folder, os.path.basename(name)), name))
    return next(filter(_is_checkpoint, candidates), None)


def steps_in(folder):
    """The steps of a run's checkpoints in a folder, in order; [] where there is no folder."""
    if not os.path.isdir(folder):
        return []
    matches = (_OF_A_RUN.fullmatch(name) for name in os.listdir(folder))
    return sorted(int(match[1]) for match in matches if match)


def _is_checkpoint(prefix):
    return os.path.isfile(prefix + ".index") or os.path.isfile(prefix)


def reader(path):
    """Opens a checkpoint, V1 or V2.

    Returns:
      A reader with get_variable_to_shape_map() and get_tensor(name), as `tf.train.load_checkpoint`'s.

    Raises:
      UserError: If there is none, or its files are damaged.
    """
    prefix = find(path)
    check_readable_name(prefix)
    try:
        return tf.train.load_checkpoint(prefix)
    except _UNREADABLE as error:
        raise UserError(f"checkpoint {prefix} cannot be read: {first_line(error)}; {_MEND}") from error


def read(path, names):
    """The values of a checkpoint under some of its names: a dict of name -> array.

    Raises:
      UserError: If there is no checkpoint, or its files are damaged.
    """
    prefix, values = find(path), {}
    file = reader(prefix)
    for name in names:
        try:
            values[name] = file.get_tensor(name)
        except _UNREADABLE as error:
            raise UserError(f"checkpoint {prefix}: {name} cannot be read: {first_line(error)}; {_MEND}") from error
    return values


def restore(path, variables_by_name):
    """Assigns a checkpoint's values to the variables of the same names; other values in the file are ignored.

    Args:
      path: As in `find`.
      variables_by_name: A dict of name -> variable.

    Returns:
      The prefix that was read.

    Raises:
      UserError: If a variable is missing in the file or has another shape there; no variable is changed then. The
        message lists what is missing, what has another shape, and what the file holds instead, side by side.
    """
    prefix = find(path)
    shapes = reader(prefix).get_variable_to_shape_map()
    missing = [name for name in variables_by_name if name not in shapes]
    reshaped = [
        (name, tuple(variable.shape), tuple(shapes[name]))
        for name, variable in variables_by_name.items()
        if name in shapes and tuple(variable.shape) != tuple(shapes[name])
    ]
    if missing or reshaped:
        unexpected = sorted(set(shapes) - set(variables_by_name))
        raise UserError(_mismatch(prefix, missing, reshaped, [(name, tuple(shapes[name])) for name in unexpected]))
    values = read(prefix, variables_by_name)
    for name, variable in variables_by_name.items():
        # Reading the assigned value would involve the other workers of a strategy, which may not take part.
        variable.assign(values[name], read_value=False)
    return prefix


def names_with_averages(path, names):
    """The names to read variables from in a checkpoint that holds moving averages.

    Args:
      path: As in `find`.
      names: Names of variables.

    Returns:
      A dict of name -> name of its moving average, or the name itself if the checkpoint has no average of it; None if
      it has no average of any of them.

    Raises:
      UserError: If there is no checkpoint, or its files are damaged.
    """
    held = reader(path).get_variable_to_shape_map()
    if not any(name + AVERAGE in held for name in names):
        return None
    return {name: name + AVERAGE if name + AVERAGE in held else name for name in names}


def _mismatch(prefix, missing, reshaped, unexpected, most=8):
    """The message of `restore`: a sentence, then two columns, at most `most` rows of each kind."""
    rows = [(name, f"{shape} in the file, {wanted} expected") for name, wanted, shape in reshaped[:most]]
    kinds = [f"{len(reshaped)} of another shape"]
    left = missing[:most] + [""] * (min(len(unexpected), most) - len(missing))
    right = [f"{name} {shape}" for name, shape in unexpected[:most]]
    right += [""] * (len(left) - len(right))
    kinds += [f"{len(missing)} missing in the file", f"{len(unexpected)} unexpected"]
    width = max([len(name) for name in left] + [len(row[0]) for row in rows] + [len("missing in the file")])
    advice = "give the network, with as many classes, that it is of"
    lines = [f"checkpoint {prefix} does not fit the network: {', '.join(kinds)}; {advice}"]
    if rows:
        lines += [f"  {'another shape'.ljust(width)}", *(f"  {name.ljust(width)}  {text}" for name, text in rows)]
    if missing or not rows:
        lines += [f"  {'missing in the file'.ljust(width)}  unexpected in the file"]
        lines += [f"  {a.ljust(width)}  {b}".rstrip() for a, b in zip(left, right, strict=True)]
    if max(len(missing), len(unexpected), len(reshaped)) > most:
        lines.append(f"  (the first {most} of each)")
    return "\n".join(lines)


def write_description(folder, description):
    """Writes model.json into `folder`: a JSON-able dict, see `read_description`."""
    write_json(pathlib.Path(folder) / DESCRIPTION, description)


def has_description(path):
    """Whether there is a model.json beside a checkpoint: a path as in `read_description`."""
    return _description_of(path).exists()


def _description_of(path):
    path = pathlib.Path(path)
    return (path if path.is_dir() else path.parent) / DESCRIPTION


def read_description(path, without="for a foreign checkpoint name the network with --model_name"):
    """Reads the model.json that describes a checkpoint.

    Args:
      path: The checkpoint's folder, prefix or file.
      without: What the message of a missing model.json advises.

    Returns:
      A dict: "network" (the settings of `nets_factory.create_model`), "preprocessing" (name, image_size, which may be
      None, and the family's numbers), "labels_offset", "label_names", "training" (the flags of the run; {} for weights
      that were trained elsewhere).

    Raises:
      UserError: If there is no model.json beside the checkpoint, or it is not a description.
    """
    file = _description_of(path)
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        description["network"]["model_name"], description["preprocessing"]["name"]
        missing = {"labels_offset", "label_names", "training"} - set(description)
        if missing:
            raise KeyError(*sorted(missing))
        description["preprocessing"].setdefault("image_size", None)
    except FileNotFoundError as error:
        raise UserError(
            f"no {DESCRIPTION} beside checkpoint {path}: expected {file}, which the trainer writes; {without}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a description of a network ({error!r}); take another copy of it") from error
    return description
