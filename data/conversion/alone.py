"""Lets only one process at a time do some work, when several convert into one folder."""

import contextlib
import fcntl
from pathlib import Path


@contextlib.contextmanager
def alone(lock_path):
    """A context for one process at a time; others wait. Without file locks (on some file systems) none waits.

    Args:
      lock_path: A file that is made, with its folder. A process within the context may remove it.
    """
    with _made(Path(lock_path)) as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _made(path):
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may just have removed the folder.
        with contextlib.suppress(FileNotFoundError):
            return open(path, "w")  # noqa: SIM115 - its caller is a context
