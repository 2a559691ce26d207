"""Divides the files of a split among workers, so that each reads only its own."""

import dataclasses
import os
import struct

from data.record_errors import DataError, explain_record

_HEADER = struct.Struct("<QI")  # Length of the record in bytes, and the checksum of that length.
_FOOTER_BYTES = 4  # The checksum of the record.


def own_part(dataset, split, worker, num_workers):
    """One worker's part of a split: neighbouring files; the workers' numbers of files differ by at most one.

    Args:
      dataset: A catalog.Dataset with at least `num_workers` files of that split.
      worker: Index of the worker among `num_workers`.

    Returns:
      A catalog.Dataset whose split holds the records of those files, and no others.

    Raises:
      DataError: If a file ends within a record. Other faults appear only when the file is read.
    """
    files = dataset.files(split)
    first, end = (index * len(files) // num_workers for index in (worker, worker + 1))
    own = files[first:end]
    count = sum(count_records(path) for path in own)
    return dataclasses.replace(
        dataset, splits=dataset.splits | {split: count}, own_files=dataset.own_files | {split: own}
    )


def count_records(path):
    """Counts the records of a TFRecord file from their length headers, without reading the records.

    Args:
      path: Path of an uncompressed file.

    Returns:
      Their number.

    Raises:
      DataError: If the file ends within a record, or a length cannot be one.
    """
    size = os.path.getsize(path)
    count = position = 0
    with open(path, "rb") as file:
        while position < size:
            file.seek(position)
            header = file.read(_HEADER.size)
            position += _HEADER.size + _FOOTER_BYTES
            if len(header) == _HEADER.size:
                position += _HEADER.unpack(header)[0]
            if position > size:
                raise DataError(explain_record(path, count))
            count += 1
    return count
