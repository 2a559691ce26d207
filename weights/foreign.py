"""What a reader of a foreign file returns, and the checks that all readers share."""

import hashlib
import importlib
from typing import NamedTuple

import numpy as np

from command_line import UserError


class Foreign(NamedTuple):
    """Weights as a foreign file holds them.

    Attributes:
      tensors: A dict of the format's own name -> array, without optimizer state.
      files: Paths of all files that were read.
      facts: What the file itself says about the network, by the format's own keys; {} for a file of weights only.
    """

    tensors: dict
    files: list
    facts: dict


def check_exists(path):
    """Raises a UserError unless something is at `path`."""
    if not path.exists():
        raise UserError(f"--source {path} does not exist; give the file or folder of the weights")


def damaged(path, reason):
    """The UserError for a file that is incomplete, or not what its name says."""
    text = str(reason).strip().partition("\n")[0]
    if not text:
        text = "it ends too early" if isinstance(reason, EOFError) else repr(reason)
    return UserError(f"{path} cannot be read: {text}; take another copy of it")


def check_finite(tensors):
    """Raises a UserError that names the first tensor with a NaN or an infinity."""
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise UserError(f"tensor {name} holds values that are not finite; take another copy of the file")


def require(module, extra, purpose):
    """Imports a module of an optional extra.

    Raises:
      UserError: If it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{purpose} needs {module.partition('.')[0]}, which is not installed: pip install -e '.[{extra}]'"
        ) from error


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
