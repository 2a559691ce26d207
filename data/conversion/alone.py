"""Work that only one process at a time may do, where several convert into one folder."""

import contextlib
import fcntl
from pathlib import Path


@contextlib.contextmanager
def alone(lock_path):
    """A context of one process at a time; others wait. On a file system without locks, any number are in it.

    Args:
      lock_path: A file that is made, with its folder; it may be removed by whoever is in the context.
    """
    with _made(Path(lock_path)) as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _made(path):
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another may just have removed the folder.
        with contextlib.suppress(FileNotFoundError):
            return open(path, "w")  # noqa: SIM115 - its caller is a context
