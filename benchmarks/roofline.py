"""The machine's peak speeds: a matrix product, and a pass over memory, with TensorFlow's own kernels."""

import dataclasses
import time

from benchmarks.engines import make_step

_SECONDS = 0.4
_LARGEST_SIDE = 4096
# Far more than the caches hold.
_COPIED_VALUES = 2**25


@dataclasses.dataclass(frozen=True)
class Peak:
    """The best of some repetitions.

    Attributes:
      gigaflops_per_second: Speed of a matrix product in the precision.
      gigabytes_per_second: Data read and written by a float32 addition over more values than the caches hold.
    """

    precision: str
    gigaflops_per_second: float
    gigabytes_per_second: float


def measure_peak(precision):
    """Measures for about a second; returns a Peak."""
    return Peak(precision, _matrix_product(precision), _copy())


def _matrix_product(precision):
    import tensorflow as tf

    product = tf.function(lambda left, right: tf.matmul(left, right), autograph=False)
    side = 256
    while True:
        matrix = tf.cast(tf.random.stateless_uniform([side, side], seed=[0, side]), precision)
        step = make_step(lambda matrix=matrix: product(matrix, matrix))
        seconds = best(step, 0.0)
        # A very short product is all overhead; one of several seconds would cost more than it tells.
        if seconds > _SECONDS / 20 or side == _LARGEST_SIDE:
            return 2e-9 * side**3 / min(seconds, best(step, _SECONDS))
        side *= 2


def _copy():
    import tensorflow as tf

    values = tf.ones([_COPIED_VALUES])
    add = tf.function(lambda values: values + 1.0, autograph=False)
    return 2e-9 * 4 * _COPIED_VALUES / best(make_step(lambda: add(values)), _SECONDS)


def best(step, seconds, clock=time.perf_counter):
    """Runs a step once untimed, then repeatedly for some seconds; returns the shortest time, in seconds."""
    step()
    shortest, start = float("inf"), clock()
    while True:
        begin = clock()
        step()
        end = clock()
        shortest = min(shortest, end - begin)
        if end - start >= seconds:
            return shortest
