"""Writes shards so that each is complete or absent, and recognizes those that an earlier run has written.

During a conversion, `unfinished/` beside the shards holds a receipt for each: what the shard was made from, how many
records and bytes it has, which files it left out. A shard counts as written if its receipt matches the plan and its
size matches the receipt.
"""

import contextlib
import json
import os
import socket
from pathlib import Path

import tensorflow as tf

from command_line import UserError
from data.parsing import FORMAT_KEY, HEIGHT_KEY, IMAGE_KEY, LABEL_KEY, WIDTH_KEY, serialize
from whole_files import to_disk

UNFINISHED = "unfinished"


class TooManyBadFilesError(Exception):
    """Ends the writing of a shard that will not be kept."""


def write_shard(directory, shard, fingerprint, examples):
    """Writes a TFRecord file with Slim's keys and its receipt; the file gets its name only once it is complete.

    Args:
      directory: Where it goes; `unfinished/` exists already.
      shard: A `plan.Shard`.
      fingerprint: Kept in the receipt to recognize the shard later.
      examples: Tuples (item, Encoded or None, reason, more features or None); without an Encoded the item is left
        out for `reason`.
    Returns:
      The receipt, a dict: fingerprint, records, bytes, label_counts, bad_files.
    Raises:
      UserError: If the file cannot be written, as on a full disk.
    """
    path = Path(directory) / shard.name
    # A leading dot keeps an unfinished file out of every file_pattern. Two runs never use the same name.
    partial = path.with_name(f".{shard.name}.{socket.gethostname()}-{os.getpid()}.partial")
    label_counts, bad_files = {}, []
    try:
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for item, image, reason, more_features in examples:
                if image is None:
                    bad_files.append([item.name, reason])
                    continue
                writer.write(_example(item, image, more_features))
                label_counts[item.label] = label_counts.get(item.label, 0) + 1
        to_disk(partial)
        receipt = {
            "fingerprint": fingerprint,
            "records": sum(label_counts.values()),
            "bytes": partial.stat().st_size,
            "label_counts": {str(label): count for label, count in sorted(label_counts.items())},
            "bad_files": bad_files,
        }
        # The receipt goes first: a shard without one would not be recognized as ours.
        write_text(_receipt_path(directory, shard), json.dumps(receipt))
        os.replace(partial, path)
    except tf.errors.OpError as error:
        reason = error.message.splitlines()[0].rpartition("; ")[2]
        raise UserError(_cannot_write(path, reason)) from None
    except OSError as error:
        raise UserError(_cannot_write(path, error.strerror)) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return receipt


def read_receipt(directory, shard):
    """The receipt of an earlier run; None if there is none."""
    try:
        return json.loads(_receipt_path(directory, shard).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def is_whole(directory, shard, receipt, fingerprint):
    """Whether the shard exists as its receipt says, made from what the plan says."""
    path = Path(directory) / shard.name
    return (
        receipt is not None
        and receipt["fingerprint"] == fingerprint
        and path.exists()
        and path.stat().st_size == receipt["bytes"]
    )


def forget_shard(directory, shard):
    """Removes a shard and its receipt, so that any found later was written after this call."""
    # The receipt goes last: a shard without one would not be recognized as ours.
    (Path(directory) / shard.name).unlink(missing_ok=True)
    _receipt_path(directory, shard).unlink(missing_ok=True)


def write_text(path, text):
    """Writes a file under another name, then renames it: a reader sees the old or the new file, nothing in between."""
    partial = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        to_disk(partial)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(_cannot_write(path, error.strerror)) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _receipt_path(directory, shard):
    return Path(directory) / UNFINISHED / f"{shard.name}.json"


def _cannot_write(path, reason):
    return (
        f"cannot write {path} ({reason}): make room or give another --dataset_dir; the same command then goes on from "
        f"the shards that are whole"
    )


def _example(item, image, more_features):
    features = {
        IMAGE_KEY: image.encoded,
        FORMAT_KEY: image.image_format.encode(),
        LABEL_KEY: item.label,
        HEIGHT_KEY: image.height,
        WIDTH_KEY: image.width,
        **(more_features or {}),
    }
    return serialize(features)
