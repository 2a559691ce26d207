"""Writes shards with Apache Beam, on as many machines as its runner has.

One element of the pipeline is one shard. What a worker has to know about the shard is in a file in `unfinished/` of
the data set's folder. The shard and its receipt go into that folder, so the machines need a shared file system with
the source and the data set's folder under the same paths. The pipeline itself carries only paths, because some
runners accept at most 10 MB.
"""

import contextlib
import io
import logging
import os
import pickle
import re
import shlex
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from command_line import UserError
from data.conversion import shards as shard_files
from data.conversion import workers
from data.conversion.plan import Encoded, Shard
from data.conversion.reading import named

# Beam appends the name of the failing step to the message of an error.
_ERROR_OF_A_WORKER = re.compile(r"UserError: (.+?)(?: \[while running [^]]*\])*$", re.MULTILINE)


class Order(NamedTuple):
    """A shard to write: `items` are pairs (Item, more features of its record or None)."""

    directory: str
    shard: Shard
    fingerprint: str
    encode: Callable[[bytes], Encoded]
    items: list


def parse_options(text):
    """Turns Beam's own flags, such as "--runner=FlinkRunner --parallelism=16", into its PipelineOptions.

    Raises:
      UserError: If Beam is not installed or a flag has a value that it does not take.
    """
    beam = _import_beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            options = PipelineOptions(shlex.split(text))
            beam.runners.create_runner(options.get_all_options()["runner"] or "DirectRunner")
    except SystemExit:
        *_, last = complaint.getvalue().strip().splitlines()
        raise UserError(f"beam_options {text!r}: {last.rpartition('error: ')[2]}") from None
    except (AttributeError, ImportError, ValueError) as error:
        raise UserError(f"beam_options {text!r}: {_one_line(error)}") from None
    return options


def write_shards(options, plan, directory, to_write, fingerprints, on_error):
    """As `on_this_machine.write_shards`, but the workers of Beam's runner write; returns when all are done.

    Every file is read, even if files that do not decode will make the conversion fail.

    Args:
      options: As `parse_options` returns them.
    Raises:
      UserError: If a worker or the runner fails, or a shard is missing at the end.
    """
    if not to_write:
        return {}, []
    beam = _import_beam()
    directory = Path(directory).resolve()
    orders = directory / shard_files.UNFINISHED / f"orders-{socket.gethostname()}-{os.getpid()}"
    try:
        paths = [str(path) for path in _write_orders(orders, plan, directory, to_write, fingerprints)]
        with beam.Pipeline(options=options) as pipeline:
            # Without the shuffle, a runner may give all elements of the Create to one worker.
            _ = pipeline | beam.Create(paths) | beam.Reshuffle() | "write shard" >> beam.Map(write_ordered_shard)
    except UserError as error:
        raise _as_user_error(error) from None
    # A runner may raise any exception, wrapped in any way.
    except Exception as error:
        # Ctrl-C while a worker of this process was running.
        if "KeyboardInterrupt" in str(error):
            raise KeyboardInterrupt from None
        raise _as_user_error(error) from error
    finally:
        shutil.rmtree(orders, ignore_errors=True)
    return _read_receipts(directory, to_write, fingerprints)


def write_ordered_shard(path):
    """Runs on a worker: writes the shard that the Order in file `path` describes."""
    try:
        order = pickle.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(
            f"worker {socket.gethostname()} cannot read {path} ({error.strerror}): its machine has to have the "
            f"folder of the data set, and the source, under the same paths"
        ) from None

    def examples():
        for item, features in order.items:
            ((image, reason),) = workers.encode_items(order.encode, [item])
            yield item, image, reason, features

    shard_files.write_shard(order.directory, order.shard, order.fingerprint, examples())


def _write_orders(folder, plan, directory, to_write, fingerprints):
    """Writes the orders, and yields the path of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in to_write:
        shard_files.forget_shard(directory, shard)
        items = [
            # A worker has another working directory.
            (item._replace(location=os.path.abspath(item.location)), plan.extra_features and plan.extra_features(item))
            for item in plan.splits[shard.split][shard.start : shard.stop]
        ]
        path = folder / shard.name
        path.write_bytes(pickle.dumps(Order(str(directory), shard, fingerprints[shard], plan.encode, items)))
        yield path


def _read_receipts(directory, shards, fingerprints):
    receipts = {shard: shard_files.read_receipt(directory, shard) for shard in shards}
    lacking = [
        shard.name
        for shard, receipt in receipts.items()
        if not shard_files.is_whole(directory, shard, receipt, fingerprints[shard])
    ]
    if lacking:
        raise UserError(
            f"the pipeline has ended, but {len(lacking)} of {len(shards)} shards are not in {directory} "
            f"({named(lacking)}): it was cancelled, or its workers do not share that folder under that path; the same "
            f"command goes on from the shards that are whole"
        )
    return receipts, [bad for receipt in receipts.values() for bad in receipt["bad_files"]]


def _as_user_error(error):
    found = _ERROR_OF_A_WORKER.search(f"{type(error).__name__}: {error}")
    if not found and "ModuleNotFoundError: No module named 'data" in str(error):
        return UserError("Beam's workers cannot import this program: pip install '.[beam]' where they run")
    return UserError(found[1] if found else f"Beam could not write the shards: {_one_line(error)}")


def _one_line(error):
    """The message of an error on one line; if it quotes a traceback, only the last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if any(line.startswith("Traceback") for line in lines) else " ".join(lines)


def _import_beam():
    # Importing Beam warns about Google Cloud clients, which few runners need.
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        import apache_beam as beam
    except ImportError:
        raise UserError("--beam_options needs Apache Beam: pip install -e '.[beam]'") from None
    finally:
        logging.disable(level)
    # It would log the traceback of every error that we report as one line.
    logging.getLogger("apache_beam.runners").setLevel(logging.CRITICAL)
    return beam
