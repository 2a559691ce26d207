"""Restarts a worker when it was killed, or when another was lost or stopped, until its run has ended.

TensorFlow's collectives do not let a single worker rejoin: when one is gone, all end, and all start from the last
checkpoint. With --max_restarts every worker does so by itself, whichever worker was lost.
"""

import ctypes
import functools
import os
import signal
import subprocess
import sys

from training.workers import LOST

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
try:
    # Looked up here, because nothing may be loaded between fork and exec.
    _prctl = ctypes.CDLL(None).prctl
except (AttributeError, OSError):  # Another system.
    _prctl = None


def run_again_and_again(max_restarts):
    """Runs this same command, without restarts of its own, in a separate process.

    Args:
      max_restarts: How often it is restarted.

    Returns:
      The exit status of the last process; for one that was killed, 128 plus the number of the signal.
    """
    command = [sys.executable, *sys.argv, "--max_restarts=0"]
    for number in range(max_restarts + 1):
        status, asked = _run(command)
        if asked or (status != LOST and status >= 0):
            break
        how = "another was lost or stopped" if status == LOST else f"it was killed by {signal.Signals(-status).name}"
        left = f"start {number + 1} of {max_restarts}" if number < max_restarts else "no start is left"
        print(f"this worker ended, {how}; {left}", file=sys.stderr, flush=True)
    return status if status >= 0 else 128 - status


def _run(command):
    """Runs a command and passes stop signals on to it; returns its status, and whether such a signal came."""
    asked = []

    def ask(number, frame):
        asked.append(number)
        child.send_signal(number)

    # In its own session, a Ctrl-C on the terminal reaches it only once, from us.
    end_with_us = None if _prctl is None else functools.partial(_end_with_parent, os.getpid())
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_us)
    handlers = {number: signal.signal(number, ask) for number in _STOPPING}
    try:
        return child.wait(), bool(asked)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if child.poll() is None:
            child.kill()
            child.wait()


def _end_with_parent(parent):
    """Asks Linux to end the calling child process when its parent is killed; it would keep its folder and port."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # The parent was killed before.
        os._exit(1)
