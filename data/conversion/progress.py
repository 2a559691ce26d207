"""Progress of a long pass over data: a bar on a terminal, otherwise a log line now and then."""

import time

import rich.console
import rich.progress

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """A context manager that shows how much of `total` is done, and how fast.

        with Progress("converting", total=50_000, unit="images") as progress:
            progress.advance(32)

    With `unit="bytes"`, amounts are shown as bytes; a `total` of None is unknown.
    """

    def __init__(self, title, total, unit):
        self._title, self._total, self._unit = title, total, unit
        self._done = 0
        self._start = self._last_line = time.monotonic()
        self._bar = None
        console = rich.console.Console(highlight=False, soft_wrap=True)
        if console.is_terminal:
            amount = (
                [rich.progress.DownloadColumn(), rich.progress.TransferSpeedColumn()]
                if unit == "bytes"
                else [rich.progress.MofNCompleteColumn(), rich.progress.TextColumn("{task.fields[rate]}")]
            )
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}", markup=False),
                rich.progress.BarColumn(),
                *amount,
                rich.progress.TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(title, total=total, rate="")

    def __enter__(self):
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error):
        if self._bar:
            self._bar.stop()

    def advance(self, amount):
        """Adds to the amount done."""
        self._done += amount
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=self._done, rate=self._rate(now))
        elif now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            of = f" of {self._amount(self._total)}" if self._total else ""
            print(f"{self._title}: {self._amount(self._done)}{of} {self._unit}, {self._rate(now)}", flush=True)

    def _amount(self, value):
        return f"{value:,}"

    def _rate(self, now):
        return f"{self._done / max(now - self._start, 1e-9):,.0f} {self._unit}/s"
