"""Intervals of medians from order statistics.

They need no assumption about the distribution, and their coverage is exact for independent samples of a continuous
one, however few (H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, section 7.1). The percentile bootstrap
of a median is too narrow for few samples: of 3 it covers 75 %, of 7 88 %.
"""

import dataclasses
import math

import numpy as np

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """An interval of a median, or of a ratio of medians.

    Attributes:
      low, high: Its ends.
      coverage: Probability that such an interval holds the true value, in [0, 1]; at least the confidence asked for,
        unless there are too few samples: 6 for 95 %.
    """

    low: float
    high: float
    coverage: float


def describe(interval):
    """An Interval in words, such as "98 % 1.012 to 1.034"."""
    return f"{100 * interval.coverage:.0f} % {interval.low:.3f} to {interval.high:.3f}"


def of_median(values, confidence=CONFIDENCE):
    """The narrowest Interval from one order statistic to its mirror image that has the confidence.

    Args:
      values: Samples. If they are too few, the interval is their range.
      confidence: In (0, 1).

    Returns:
      An Interval; None for fewer than two values, or if one is not finite.
    """
    ordered, count = sorted(values), len(values)
    if count < 2 or not np.isfinite(ordered).all():
        return None
    # The median lies below the sample of rank k, from 0, if at most k of n samples do: X <= k, X ~ Binomial(n, 1/2).
    ranks = np.arange(1, (count + 1) // 2)
    log_ways = np.concatenate([[0.0], np.cumsum(np.log((count - ranks + 1) / ranks))])
    coverages = 1 - 2 * np.cumsum(np.exp(log_ways - count * math.log(2)))
    left_out = max(0, int(np.count_nonzero(coverages >= confidence)) - 1)
    return Interval(ordered[left_out], ordered[count - 1 - left_out], float(coverages[left_out]))


def of_ratio(numerators, denominators, confidence=CONFIDENCE):
    """An Interval of median(numerators) / median(denominators), whose samples are independent and above 0.

    It holds the ratio when the interval of each median holds that one, so that its coverage is more than it says.

    Returns:
      An Interval; None if there are fewer than two samples of either.
    """
    # Two independent intervals are right together with the product of their probabilities.
    above, below = (of_median(values, math.sqrt(confidence)) for values in (numerators, denominators))
    if above is None or below is None:
        return None
    return Interval(above.low / below.high, above.high / below.low, above.coverage * below.coverage)
