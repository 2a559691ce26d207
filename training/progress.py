"""What a run shows while it goes on: a bar on a terminal, log lines elsewhere."""

import datetime

import rich.console
import rich.progress
import rich.text


class _Bar(rich.progress.Progress):
    """A bar, and under it what the last steps measured: side by side they would not fit 80 columns."""

    text = ""

    def get_renderables(self):
        yield from super().get_renderables()
        yield rich.text.Text(self.text)


class Progress:
    """Shows steps done, loss, train top-1, rate, images/s and time left; a context manager."""

    def __init__(self, first_step, total_steps):
        """Args: first_step: steps done before; total_steps: steps of the whole run."""
        self._total_steps = total_steps
        self._console = rich.console.Console(highlight=False)
        self._bar = None
        if self._console.is_terminal:
            self._bar = _Bar(
                rich.progress.TextColumn("step"),
                rich.progress.MofNCompleteColumn(),
                rich.progress.BarColumn(bar_width=None),
                rich.progress.TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=total_steps, completed=first_step)

    def __enter__(self):
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error):
        if self._bar:
            self._bar.stop()

    def step(self, step):
        """Moves the bar."""
        if self._bar:
            self._bar.update(self._task, completed=step)

    def log(self, step, metrics, images_per_second, seconds_left):
        """Shows the means over the steps since the last call.

        Args:
          step: Steps done.
          metrics: A dict of loss, cross_entropy, top_1, learning_rate.
          images_per_second: Over the same steps; None when not known yet.
          seconds_left: Of the whole run, at this pace; None likewise.
        """
        pace = f"{images_per_second:.0f} images/s" if images_per_second else "- images/s"
        text = (
            f"loss {metrics['loss']:.4f} (cross-entropy {metrics['cross_entropy']:.4f})  "
            f"train top-1 {metrics['top_1']:.4f}  rate {metrics['learning_rate']:.5f}  {pace}"
        )
        if self._bar:
            self._bar.text = text
            self._bar.update(self._task, completed=step)
        else:
            left = "" if seconds_left is None else f"  {datetime.timedelta(seconds=round(seconds_left))} left"
            print(f"step {step}/{self._total_steps}  {text}{left}", flush=True)

    def say(self, text):
        """Prints a line that stays."""
        if self._bar:
            self._console.print(text, markup=False, soft_wrap=True)
        else:
            print(text, flush=True)
