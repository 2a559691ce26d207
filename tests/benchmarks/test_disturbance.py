"""Warnings, of times and counters whose figures are known."""

import os

import pytest

from benchmarks import disturbance

STEADY = [1.0] * 16


def counters(path, *cores):
    """A /proc/stat of cores (user, nice, system, idle, iowait, irq, softirq, steal), in ticks."""
    lines = ["cpu  9 9 9 9 9 9 9 9 0 0"]
    lines += [f"cpu{number} {' '.join(map(str, core))} 0 0" for number, core in enumerate(cores)]
    path.write_text("\n".join([*lines, "intr 12345", ""]))
    return path


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(os, "sysconf", {"SC_CLK_TCK": 100}.__getitem__)


def move(monkeypatch, path, own_seconds, *cores):
    """A Watch that started at zero and sees these counters now."""
    monkeypatch.setattr(os, "times", lambda: (0.0, 0.0, 0.0, 0.0, 0.0))
    watch = disturbance.Watch(counters(path, [0] * 8, [0] * 8, [0] * 8))
    monkeypatch.setattr(os, "times", lambda: (own_seconds - 0.25, 0.25, 7.0, 7.0, 7.0))
    counters(path, *cores)
    return watch.others_share()


def test_the_share_of_others(two_cores, monkeypatch, tmp_path):
    # 10 s on two cores: 8 s + 2 s busy, of which 4 s were ours; the third core is not ours to use.
    cores = [700, 10, 50, 190, 10, 10, 10, 20], [100, 0, 100, 800, 0, 0, 0, 0], [1000, 0, 0, 0, 0, 0, 0, 0]
    assert move(monkeypatch, tmp_path / "stat", 4.0, *cores) == pytest.approx((10.0 - 4.0) / 20.0)


def test_alone_there_is_no_share(two_cores, monkeypatch, tmp_path):
    cores = [1000, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1000, 0, 0, 0, 0]
    assert move(monkeypatch, tmp_path / "stat", 10.01, *cores) == 0.0


def test_of_a_moment_ticks_say_nothing(two_cores, monkeypatch, tmp_path):
    cores = [2, 0, 0, 3, 0, 0, 0, 0], [2, 0, 0, 3, 0, 0, 0, 0]
    assert move(monkeypatch, tmp_path / "stat", 0.0, *cores) is None


def test_a_system_without_counters(tmp_path):
    assert disturbance.Watch(tmp_path / "missing").others_share() is None
    assert disturbance.describe_others(None, "before") is None


def test_steady_times_are_not_doubted():
    assert disturbance.describe_doubts(STEADY, 0.0) == ()
    assert disturbance.describe_doubts([1.0], None) == ()


def test_spread():
    # Deviation of 1, 1, 1.3, 0.7: sqrt(0.18 / 3) = 0.245 around a median of 1.
    (line,) = disturbance.describe_doubts([1.0, 1.0, 1.3, 0.7], 0.0)
    assert line.startswith("the deviation is 24% of the median")
    # Of 1, 1, 1.1, 0.9: 0.082.
    assert disturbance.describe_doubts([1.0, 1.0, 1.1, 0.9], 0.0) == ()


@pytest.mark.parametrize(("last", "said"), [(1.08, "+8% "), (0.93, "-7% "), (1.04, None)])
def test_drift(last, said):
    lines = disturbance.describe_doubts([1.0] * 12 + [last] * 4, 0.0)
    assert [said in line for line in lines] == ([True] if said else [])


def test_others():
    (line,) = disturbance.describe_doubts(STEADY, 0.3)
    assert line.startswith("other processes took 30% of the cores' time during the steps")
    assert disturbance.describe_doubts(STEADY, 0.04) == ()
