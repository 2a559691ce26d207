"""What a run shows while it trains: a bar on a terminal, log lines elsewhere."""

import datetime

import rich.console
import rich.progress
import rich.text

from training.meter import shares_text


class _Bar(rich.progress.Progress):
    """A bar with the metrics of the last steps below it: side by side they would not fit in 80 columns."""

    text = ""

    def get_renderables(self):
        yield from super().get_renderables()
        yield rich.text.Text(self.text)


class Progress:
    """Shows steps done, loss, train top-1, rate, images/s and time left; a context manager."""

    def __init__(self, first_step, total_steps, is_shown=True):
        """Args: first_step: steps done before; total_steps: steps of the whole run; is_shown: False shows nothing."""
        self._total_steps = total_steps
        self._is_shown = is_shown
        self._console = rich.console.Console(highlight=False)
        self._bar = None
        if self._console.is_terminal and is_shown:
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

    def log(self, step, measured):
        """Shows the means over the steps since the last call.

        Args:
          step: Steps done.
          measured: A meter.Measured.
        """
        metrics, pace = measured.metrics, "- images/s"
        if measured.images_per_second:
            pace = f"{measured.images_per_second:.0f} images/s"
        scale = f"  loss scale {metrics['loss_scale']:g}" if "loss_scale" in metrics else ""
        text = (
            f"loss {metrics['loss']:.4f} (cross-entropy {metrics['cross_entropy']:.4f})  "
            f"train top-1 {metrics['top_1']:.4f}  rate {metrics['learning_rate']:.3g}{scale}  {pace}"
        )
        if self._bar:
            self._bar.text = f"{text}\ntime: {shares_text(measured.seconds)}"
            self._bar.update(self._task, completed=step)
        elif self._is_shown:
            left = ""
            if measured.seconds_left is not None:
                left = f"  {datetime.timedelta(seconds=round(measured.seconds_left))} left"
            line = f"step {step}/{self._total_steps}  {text}{left}  time: {shares_text(measured.seconds)}"
            print(line, flush=True)

    def say(self, text):
        """Prints a permanent line."""
        if self._bar:
            self._console.print(text, markup=False, soft_wrap=True)
        elif self._is_shown:
            print(text, flush=True)
