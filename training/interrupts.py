"""Ctrl-C and SIGTERM as a request to stop, which takes effect between two steps or two evaluation batches."""

import signal


class Stopped(Exception):
    """Raised to leave work that need not be finished."""


class StopRequest:
    """True once a signal came; a context manager. A second one stops at once, like Ctrl-C in Python."""

    def __init__(self):
        self.requested = False

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
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
