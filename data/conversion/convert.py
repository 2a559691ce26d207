"""Gets the shards of a plan written, then writes labels.txt and dataset.json, which make them a data set."""

import collections
import contextlib
import csv
import io
import json
import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from command_line import UserError
from data import catalog
from data.conversion import on_this_machine
from data.conversion import shards as shard_files
from data.conversion.alone import alone
from data.conversion.reading import named

BAD_FILES = "bad_files.csv"
LABELS = "labels.txt"


class Result(NamedTuple):
    """What a run did. `num_missing` shards are left to other runs; if 0, the data set is complete.

    `was_there` says whether the data set was finished before. `bad_files` are [name, reason] of the files left out of
    the whole data set; they are known once it is complete.
    """

    num_written: int
    num_kept: int
    num_missing: int
    was_there: bool
    images: int
    seconds: float
    bad_files: list


def convert(plan, directory, on_error="fail", shard_range=None, write_shards=on_this_machine.write_shards):
    """Writes a plan's shards into `directory`, except those that are already there.

    Args:
      plan: A `plan.Plan`.
      directory: Folder of the data set; made if missing.
      on_error: What to do about files that do not decode: "fail" or "skip" them.
      shard_range: (first, end) of the shards to write, numbered over all splits; None for all.
      write_shards: The function that writes them, such as `on_this_machine.write_shards`.
    Returns:
      A Result.
    Raises:
      UserError: If files do not decode and on_error is "fail"; if the directory holds another data set; if a class or
        a split is left without images; if nothing can be written.
    """
    directory = Path(directory)
    fingerprints = {shard: plan.fingerprint(shard) for shard in plan.shards}
    finished = _finished_receipts(plan, directory, fingerprints)
    _make_folder(directory / shard_files.UNFINISHED)
    # Files that could not be converted may have been mended since.
    receipts = _receipts_of_whole_shards(directory, fingerprints, finished)
    first, end = _checked_range(shard_range, len(plan.shards))
    to_write = [shard for shard in plan.shards[first:end] if shard not in receipts]
    num_kept = len(receipts)
    start = time.monotonic()
    written, bad_files = write_shards(plan, directory, to_write, fingerprints, on_error)
    seconds = time.monotonic() - start
    if bad_files and on_error == "fail":
        total = sum(shard.stop - shard.start for shard in to_write)
        _fail_with(bad_files, directory, total, stopped=len(written) < len(to_write))
    receipts.update(written)
    if finished:
        _check_repaired(written, finished, directory)
        num_missing, all_bad = len(plan.shards) - len(receipts), []
    else:
        num_missing, all_bad = _finish_if_complete(plan, directory, fingerprints, receipts, on_error)
    images = sum(receipt["records"] for receipt in written.values())
    return Result(len(written), num_kept, num_missing, finished is not None, images, seconds, all_bad)


def _receipts_of_whole_shards(directory, fingerprints, finished, with_bad_files=False):
    """The receipts of shards that need not be written; `finished` comes from `_finished_receipts`."""
    receipts = {}
    for shard, fingerprint in fingerprints.items():
        receipt = finished[shard.name] if finished else shard_files.read_receipt(directory, shard)
        whole = shard_files.is_whole(directory, shard, receipt, fingerprint)
        if whole and (finished or with_bad_files or not receipt["bad_files"]):
            receipts[shard] = receipt
        elif receipt is None and (directory / shard.name).exists():
            raise UserError(
                f"{directory / shard.name} is there, but was not written by this conversion: give another "
                f"--dataset_dir or move it away"
            )
    return receipts


def _finish_if_complete(plan, directory, fingerprints, receipts, on_error):
    """Makes the shards a data set if all are there, including those that others have written meanwhile.

    Returns:
      The number of missing shards, and the files left out of the data set.
    """
    # If several processes wrote the last shards, the first one here finishes, and the others find it done.
    with alone(directory / shard_files.UNFINISHED / ".lock"):
        if _finished_receipts(plan, directory, fingerprints) is not None:
            return 0, _read_bad_files(directory)
        receipts = _receipts_of_whole_shards(directory, fingerprints, None, on_error == "skip") | receipts
        num_missing = len(plan.shards) - len(receipts)
        return num_missing, [] if num_missing else _finish(plan, directory, receipts)


def is_finished(directory, name):
    """Whether the directory holds data set `name` with all its shards, so that nothing need be fetched.

    Raises:
      UserError: If the directory holds another data set.
    """
    description = _read_description(Path(directory))
    if description is None:
        return False
    if description.get("name") != name:
        raise UserError(
            f"{directory} holds data set {description.get('name')!r}, not {name!r}: give another --dataset_dir"
        )
    shards = description["conversion"]["shards"]
    paths = {Path(directory) / shard: receipt["bytes"] for shard, receipt in shards.items()}
    return all(path.exists() and path.stat().st_size == size for path, size in paths.items())


def remove_unfinished(directory):
    """Removes what only an unfinished conversion needs, if the directory holds a finished one."""
    with contextlib.suppress(UserError):
        if _read_description(directory) is not None:
            shutil.rmtree(directory / shard_files.UNFINISHED, ignore_errors=True)


def _read_description(directory):
    path = directory / catalog.DESCRIPTION_FILE
    if not path.exists():
        return None
    catalog.open_dataset(directory=directory)
    description = json.loads(path.read_text(encoding="utf-8"))
    if "conversion" not in description:
        raise UserError(
            f"{directory} holds data set {description['name']!r}, which this program did not write: give another "
            f"--dataset_dir"
        )
    return description


def _finished_receipts(plan, directory, fingerprints):
    """The receipts of a finished conversion, by shard name; None if there is none."""
    description = _read_description(directory)
    if description is None:
        return None
    receipts = description["conversion"]["shards"]
    if {shard.name: fingerprint for shard, fingerprint in fingerprints.items()} != {
        name: receipt["fingerprint"] for name, receipt in receipts.items()
    }:
        raise UserError(
            f"{directory} holds a finished conversion of data set {description['name']!r} from other files or with "
            f"other settings, which is left as it is: give another --dataset_dir, or remove that folder first"
        )
    return receipts


def _check_repaired(written, finished, directory):
    for shard, receipt in written.items():
        expected = finished[shard.name]
        if (receipt["records"], receipt["bytes"]) != (expected["records"], expected["bytes"]):
            raise UserError(
                f"{directory / shard.name} was missing and is not what it was when made again "
                f"({receipt['records']} records, {expected['records']} before): the source has changed; convert it "
                f"into another --dataset_dir"
            )


def _checked_range(shard_range, count):
    if shard_range is None:
        return 0, count
    first, end = shard_range
    end = count if end is None else end
    if not 0 <= first < end <= count:
        raise UserError(f"shard_range {first}:{end} is not within the {count} shards of the data set, 0:{count}")
    return first, end


def _fail_with(bad_files, directory, total, stopped):
    _write_bad_files(directory, bad_files)
    name, reason = bad_files[0]
    raise UserError(
        f"{len(bad_files)} of {total} files cannot be converted{' before it stopped' if stopped else ''}, the first "
        f"{name}: {reason}; all are listed in {directory / BAD_FILES}: mend or remove them and run again, or leave "
        f"them out with --on_error=skip"
    )


def _write_bad_files(directory, bad_files):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "reason"])
    writer.writerows(bad_files)
    shard_files.write_text(directory / BAD_FILES, text.getvalue())


def _read_bad_files(directory):
    """Reads what `_write_bad_files` wrote; [] without the file."""
    path = directory / BAD_FILES
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def _finish(plan, directory, receipts):
    """Makes the shards a data set; returns the files left out of it."""
    counts = {split: collections.Counter() for split in plan.splits}
    bad_files = []
    for shard in plan.shards:
        counts[shard.split].update({int(label): n for label, n in receipts[shard]["label_counts"].items()})
        bad_files += receipts[shard]["bad_files"]
    _check_counts(plan, counts, bad_files)
    _check_no_other_files(plan, directory)
    if bad_files:
        _write_bad_files(directory, bad_files)
    else:
        (directory / BAD_FILES).unlink(missing_ok=True)
    lines = "".join(f"{label}:{name}\n" for label, name in enumerate(plan.class_names))
    shard_files.write_text(directory / LABELS, lines)
    description = {
        "name": plan.name,
        "splits": {split: sum(counts[split].values()) for split in plan.splits},
        "class_names": list(plan.class_names),
        "file_pattern": plan.file_pattern,
        **({"image_shape": list(plan.image_shape)} if plan.image_shape else {}),
        "source": plan.source,
        "licence": plan.licence,
        "class_counts": {
            split: [counts[split][label] for label in range(len(plan.class_names))] for split in plan.splits
        },
        "bad_files": len(bad_files),
        "conversion": {
            **plan.settings,
            "shards": {
                shard.name: {key: receipts[shard][key] for key in ("records", "bytes", "fingerprint")}
                for shard in plan.shards
            },
        },
    }
    # Written last: without it, nothing takes the shards for a data set.
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    shard_files.write_text(directory / catalog.DESCRIPTION_FILE, text)
    shutil.rmtree(directory / shard_files.UNFINISHED, ignore_errors=True)
    for partial in directory.glob(".*.partial"):
        partial.unlink(missing_ok=True)
    return bad_files


def _check_counts(plan, counts, bad_files):
    left_out = f" ({len(bad_files)} files were left out)" if bad_files else ""
    empty_splits = [split for split in plan.splits if not counts[split]]
    if empty_splits:
        raise UserError(f"split {empty_splits[0]!r} has no image that decodes{left_out}: mend its files")
    train = next(iter(plan.splits))
    empty = [
        name for label, name in enumerate(plan.class_names) if not counts[train][label] and label not in plan.unlabelled
    ]
    if empty:
        raise UserError(
            f"{named(map(repr, empty))}: no image to train on{left_out}; add images or remove the class from the source"
        )


def _check_no_other_files(plan, directory):
    """Other files that match the file pattern would be read as part of the data set."""
    ours = {shard.name for shard in plan.shards}
    for split in plan.splits:
        for path in directory.glob(plan.file_pattern.replace("{split}", split)):
            receipt = directory / shard_files.UNFINISHED / f"{path.name}.json"
            if path.name in ours:
                continue
            if not receipt.exists():
                raise UserError(f"{path} is not part of this conversion, but looks so by its name: move it away")
            # Left by an earlier, unfinished run with other shards.
            path.unlink()


def _make_folder(path):
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make folder {path} ({error.strerror}): give another --dataset_dir") from None
