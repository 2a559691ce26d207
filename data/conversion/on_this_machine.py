"""Writes shards with the processes of this machine: workers decode, the main process writes."""

import functools
import itertools

from data.conversion import shards as shard_files
from data.conversion import workers
from data.conversion.progress import Progress

# A run that will fail anyway need not read a million more files first.
_MOST_BAD_FILES_OF_A_FAILING_RUN = 100
_ITEMS_PER_TASK = 32
_BYTES_PER_TASK = 2**22


def write_shards(plan, directory, to_write, fingerprints, on_error):
    """Writes shards, one after the other.

    Args:
      plan: The `plan.Plan` of the shards.
      directory: Where they go; `unfinished/` exists already.
      to_write: A list of `plan.Shard`.
      fingerprints: {shard: the fingerprint for its receipt}, for these shards and perhaps more.
      on_error: "fail" to stop after many files that do not decode, or "skip".
    Returns:
      ({shard: receipt} of the written shards, [name, reason] of every bad file).
    Raises:
      UserError: If a shard cannot be written, or a worker process dies.
    """

    def tasks_of(shard):
        # Made again each time: if kept, the tasks of millions of files would add to the memory of the plan.
        return _tasks(plan.splits[shard.split][shard.start : shard.stop])

    def all_tasks():
        return itertools.chain.from_iterable(map(tasks_of, to_write))

    num_tasks = sum(1 for _ in all_tasks())
    results = workers.map_in_order(functools.partial(workers.encode_items, plan.encode), all_tasks(), num_tasks)
    total = sum(shard.stop - shard.start for shard in to_write)
    written, bad_files = {}, []
    with Progress("converting", total=total, unit="images") as progress:

        def examples(shard):
            for task in tasks_of(shard):
                for item, (image, reason) in zip(task, next(results), strict=True):
                    if image is None:
                        bad_files.append([item.name, reason])
                    features = image and plan.extra_features and plan.extra_features(item)
                    yield item, image, reason, features
                progress.advance(len(task))
                if on_error == "fail" and len(bad_files) >= _MOST_BAD_FILES_OF_A_FAILING_RUN:
                    raise shard_files.TooManyBadFilesError

        try:
            for shard in to_write:
                written[shard] = shard_files.write_shard(directory, shard, fingerprints[shard], examples(shard))
        except shard_files.TooManyBadFilesError:
            pass
        finally:
            results.close()
    return written, bad_files


def _tasks(items):
    """Cuts items into lists that are neither long nor large, to bound the memory use."""
    task, size = [], 0
    for item in items:
        if task and (len(task) == _ITEMS_PER_TASK or size + item.size > _BYTES_PER_TASK):
            yield task
            task, size = [], 0
        task.append(item)
        size += max(item.size, 0)
    if task:
        yield task
