"""What makes step times doubtful: their spread, a drift, and other processes on the same cores."""

import os
import statistics
import time
from pathlib import Path

SPREAD = 0.1
DRIFT = 0.05
OTHERS = 0.05
# With fewer steps, the median of a quarter says little.
_STEPS_WITH_QUARTERS = 12
_LOOK_SECONDS = 0.3
# Linux counts in ticks of 10 ms, which say nothing about shorter times.
_LEAST_CORE_SECONDS = 0.25


class Watch:
    """Measures the part of the usable cores' time that other processes take from now on; Linux only."""

    def __init__(self, stat_path="/proc/stat"):
        self._stat_path = stat_path
        self._start = self._read()

    def others_share(self):
        """Part of the usable cores' time since the start that other processes took, 0 to 1; None if not known."""
        now = self._read()
        if self._start is None or now is None:
            return None
        busy, total, own = (end - start for start, end in zip(self._start, now, strict=True))
        if total < _LEAST_CORE_SECONDS:
            return None
        return min(max((busy - own) / total, 0.0), 1.0)

    def _read(self):
        """Seconds that the usable cores were busy, seconds in total, and seconds that this process ran."""
        try:
            lines = Path(self._stat_path).read_text().splitlines()
            cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        except (AttributeError, OSError):
            return None
        # user nice system idle iowait irq softirq steal; user and nice already include the guests' time.
        ticks = [list(map(int, words[1:9])) for line in lines if (words := line.split()) and words[0] in cores]
        if not ticks:
            return None
        second = os.sysconf("SC_CLK_TCK")
        total = sum(map(sum, ticks)) / second
        idle = sum(core[3] + core[4] for core in ticks) / second
        return total - idle, total, sum(os.times()[:2])


def look_around(sleep=time.sleep):
    """Part of the cores' time that other processes take while this one rests for a moment; None if not known."""
    watch = Watch()
    sleep(_LOOK_SECONDS)
    return watch.others_share()


def describe_others(share, when):
    """A warning line if other processes took too much of the cores, else None."""
    if share is None or share <= OTHERS:
        return None
    return f"other processes took {share:.0%} of the cores' time {when}: times are too long; wait until they are done"


def describe_doubts(step_seconds, others_share):
    """The reasons to doubt step times, a tuple of lines; empty if there are none.

    Args:
      step_seconds: In the order in which they were measured.
      others_share: As `Watch.others_share` returns it, for the time of the steps.
    """
    lines = [_describe_spread(step_seconds), _describe_drift(step_seconds)]
    lines.append(describe_others(others_share, "during the steps"))
    return tuple(line for line in lines if line)


def _describe_spread(step_seconds):
    if len(step_seconds) < 2:
        return None
    spread = statistics.stdev(step_seconds) / statistics.median(step_seconds)
    if spread <= SPREAD:
        return None
    return (
        f"the deviation is {spread:.0%} of the median (more than {SPREAD:.0%}): time more steps, or a quieter machine"
    )


def _describe_drift(step_seconds):
    if len(step_seconds) < _STEPS_WITH_QUARTERS:
        return None
    quarter = len(step_seconds) // 4
    drift = statistics.median(step_seconds[-quarter:]) / statistics.median(step_seconds[:quarter]) - 1
    if abs(drift) <= DRIFT:
        return None
    return (
        f"the last quarter's median is {drift:+.0%} of the first's (more than {DRIFT:.0%}): the clock rate or the load "
        "changed; a longer --burn_in may help"
    )
