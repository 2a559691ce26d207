"""Ctrl-C and SIGTERM as a request to stop, which takes effect between two steps or two evaluation batches."""

import math
import signal
import time

_SAME_REQUEST_SECS = 1.0


class Stopped(Exception):
    """Raised to leave work that need not be finished."""


class StopRequest:
    """True once a signal came; a context manager. A second one stops at once, like Ctrl-C in Python.

    A SIGTERM that follows another within a second is the same request: schedulers send it to every process of a job,
    and a process that restarts this one passes it on.
    """

    def __init__(self):
        self.requested = False
        self._terminated_at = -math.inf

    def __enter__(self):
        self._handlers = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def __bool__(self):
        return self.requested

    def check(self):
        """Raises Stopped once a signal came."""
        if self.requested:
            raise Stopped

    def _ask(self, number, frame):
        now = time.monotonic()
        is_the_same = number == signal.SIGTERM and now - self._terminated_at < _SAME_REQUEST_SECS
        if number == signal.SIGTERM:
            self._terminated_at = now
        if self.requested and not is_the_same:
            raise KeyboardInterrupt
        self.requested = True
