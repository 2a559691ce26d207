"""Checkpoints of TensorFlow 1 programs."""

import glob
import pathlib

from nets import checkpoints


def read(path):
    """Reads a checkpoint, V1 or V2, without optimizer slots.

    A slot is named after its variable: X/Momentum beside X. Moving averages, X/ExponentialMovingAverage, are kept.

    Args:
      path: A folder (its newest checkpoint), a prefix, or a file.

    Returns:
      The prefix, a dict of name -> array, and the paths of the files.

    Raises:
      UserError: If there is none, or its files are damaged.
    """
    prefix = checkpoints.find(path)
    names = checkpoints.reader(prefix).get_variable_to_shape_map()
    slots = {name for name in names if name.rpartition("/")[0] in names and not name.endswith(checkpoints.AVERAGE)}
    tensors = checkpoints.read(prefix, sorted(set(names) - slots))
    files = [path for path in glob.glob(glob.escape(prefix) + ".*") if ".data-" in path or path.endswith(".index")]
    return prefix, tensors, [pathlib.Path(path) for path in sorted(files) or [prefix]]
