"""Worker processes that decode while the main process writes.

A worker imports this module and the module of a plan's `encode`. These must not import TensorFlow, which takes seconds
to start and 400 MB.
"""

import collections
import concurrent.futures
import multiprocessing
import os
import signal
import threading
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection

from command_line import UserError
from data.conversion.plan import BadFileError
from data.conversion.reading import read_item

# A worker takes 40 MB, and eight decode faster than one process writes.
_MOST_WORKERS = 8
# Below this many tasks the processes take longer to start than they save.
_FEWEST_TASKS = 16
_TASKS_AHEAD_PER_WORKER = 2


def map_in_order(function, tasks, num_tasks):
    """Yields `function(task)` for each of `tasks`, in order, computing a bounded number ahead.

    Args:
      function: Picklable, as are its argument and result.
      tasks: An iterable, consumed as results are.
      num_tasks: Number of tasks; if there are few, they run in this process.
    Raises:
      UserError: If a worker dies, as when the machine runs out of memory.
    """
    num_workers = min(usable_cpus(), _MOST_WORKERS)
    if num_tasks < _FEWEST_TASKS or num_workers < 2:
        yield from map(function, tasks)
        return
    # Forking a process that runs TensorFlow's threads can hang the child.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)
    try:
        ahead = collections.deque()
        for task in tasks:
            ahead.append(pool.submit(function, task))
            if len(ahead) >= _TASKS_AHEAD_PER_WORKER * num_workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process died, as when memory runs out or a decoder crashes; the same command goes on from the "
            "shards that are whole"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def encode_items(encode, items):
    """Reads and encodes items; returns (Encoded, None) or (None, reason) for each."""
    results = []
    for item in items:
        try:
            results.append((encode(read_item(item)), None))
        except BadFileError as error:
            results.append((None, str(error)))
    return results


def usable_cpus():
    # A container may be limited to fewer CPUs than the machine has; only Linux reports this.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _start_worker():
    # Ctrl-C reaches the whole process group; only the main process decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent():
    """Without this, a pool's worker waits forever when its parent was killed."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
