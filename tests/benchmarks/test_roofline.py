"""The machine's best, on a clock that the test moves; and the least work of a network, counted by hand."""

import numpy as np
import pytest

from benchmarks import memory, roofline, steps
from nets import nets_factory


def test_the_best_is_the_shortest_after_the_first():
    now, lengths = [0.0], iter([0.5, 4.0, 2.0, 3.0, 9.0])

    def step():
        now[0] += next(lengths)

    # Started within 8 s: 4, 2 and 3; the first, which compiles, is not timed.
    assert roofline.best(step, 8.0, clock=lambda: now[0]) == 2.0


def test_a_machine_does_something():
    peak = roofline.measure_peak("float32")
    assert peak.precision == "float32"
    assert peak.gigaflops_per_second > 0 and peak.gigabytes_per_second > 0


def test_what_convolutions_read_and_write():
    model = nets_factory.create_model("resnet_cifar_v1_20", 10)
    counted = steps.count(model, 32)
    assert counted["multiply_adds"] == model.multiply_adds(32)
    weights = [value for name, value in model.variables_by_name.items() if name.endswith("/weights")]
    assert counted["weight_values"] == sum(int(np.prod(value.shape)) for value in weights)
    # The first convolution, 6 of 32 x 32 x 16, 6 of 16 x 16 x 32, 6 of 8 x 8 x 64 (the first of which reads the map
    # before), and the last layer. Borders that are padded beforehand come on top.
    by_hand = 3072 + 16384 + 12 * 16384 + (16384 + 11 * 8192) + (8192 + 11 * 4096) + 64 + 10
    assert counted["activation_values"] == pytest.approx(by_hand, rel=0.02)
    assert counted["activation_values"] >= by_hand


def test_the_peak_of_memory_is_that_since_the_reset():
    memory.reset_peak()
    before = memory.peak_bytes()
    block = np.ones(2**25)  # 256 MiB.
    during = memory.peak_bytes()
    del block
    assert before > 0 and during - before > 200 * 2**20
