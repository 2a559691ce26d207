"""Checkpoints of TensorFlow 1 programs."""

import glob
import pathlib

import tensorflow as tf

from nets import checkpoints
from weights.foreign import damaged

_UNREADABLE = (tf.errors.OpError, RuntimeError, ValueError, IndexError)


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
    reader = checkpoints.reader(prefix)
    names = reader.get_variable_to_shape_map()
    tensors = {}
    for name in sorted(names):
        parent, _, leaf = name.rpartition("/")
        if parent in names and leaf != "ExponentialMovingAverage":
            continue
        try:
            tensors[name] = reader.get_tensor(name)
        except _UNREADABLE as error:
            raise damaged(f"{name} of checkpoint {prefix}", error) from error
    files = [path for path in glob.glob(glob.escape(prefix) + ".*") if ".data-" in path or path.endswith(".index")]
    return prefix, tensors, [pathlib.Path(path) for path in sorted(files) or [prefix]]
