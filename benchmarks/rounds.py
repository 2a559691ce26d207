"""Times contestants in alternation, A B A B ..., and compares their rates.

A machine that others use, or that warms up, is slow for minutes at a time. In alternation, contestants meet the same
machine, so the ratios of a round are valid even if the rates of a run are not.
"""

import dataclasses
import statistics
import time

from benchmarks import intervals


def run_rounds(contestants, num_rounds, seconds, burn_in_seconds, clock=time.perf_counter, on_rate=None):
    """Times each contestant once per round.

    Args:
      contestants: {name: start}. `start()` prepares and returns a function of no arguments that takes a batch, or does
        a step, and returns its number of images. The function is dropped before the next contestant's turn.
      num_rounds: Turns of each.
      seconds: How long a turn is timed; the last batch may end later.
      burn_in_seconds: How long it runs before that; at least one batch.
      on_rate: Called with (name, images per second) after each turn.
    Returns:
      {name: [images per second of each round]}.
    """
    rates = {name: [] for name in contestants}
    for _ in range(num_rounds):
        for name, start in contestants.items():
            take_batch = start()
            _run(take_batch, burn_in_seconds, clock)
            images, elapsed = _run(take_batch, seconds, clock)
            del take_batch  # This also ends its reading ahead, which would run during the next turn.
            rates[name].append(images / elapsed)
            if on_rate is not None:
                on_rate(name, images / elapsed)
    return rates


def print_rate(name, images_per_second):
    """An `on_rate` that shows the progress of a long run."""
    print(f"# {name}: {images_per_second:.2f} images/s", flush=True)


def _run(take_batch, seconds, clock):
    images, start = 0, clock()
    while True:
        images += take_batch()
        elapsed = clock() - start
        if elapsed >= seconds:
            return images, elapsed


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How two contestants compare.

    Attributes:
      label: What is divided by what.
      per_round: One ratio per round.
      median: Of them.
      interval: An `intervals.Interval` of the median; None for one round.
    """

    label: str
    per_round: tuple[float, ...]
    median: float
    interval: intervals.Interval | None

    def __str__(self):
        interval = intervals.describe(self.interval) if self.interval else "one round"
        return f"{self.label}: {self.median:.3f} ({interval}, n {len(self.per_round)})"


def compare(label, rates, base_rates):
    """The Ratio of `rates` over `base_rates`, both from the same rounds."""
    return ratio_of(label, [rate / base for rate, base in zip(rates, base_rates, strict=True)])


def ratio_of(label, per_round):
    """The Ratio of one ratio per round."""
    return Ratio(label, tuple(per_round), statistics.median(per_round), intervals.of_median(per_round))
