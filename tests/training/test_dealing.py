"""Steps that are dealt out, to workers of which each takes its time; the coordinator here is told who is done."""

import threading
import time

import pytest
import tensorflow as tf

from command_line import UserError
from training import dealing


class Value:
    """What a step will give: its number, or errors first."""

    def __init__(self, number, errors):
        self.done = threading.Event()
        self._number, self._errors = number, list(errors)

    def fetch(self):
        self.done.wait()
        if self._errors:
            raise self._errors.pop(0)
        return self._number


class Coordinator:
    """Counts the steps that it is given; those in `held` are not done until they are let go."""

    def __init__(self, held=(), errors=None, root=None):
        self.values = []
        self._held, self._errors, self._root = held, errors or {}, root

    def schedule(self, function, args):
        number = len(self.values)
        self.values.append(Value(number, self._errors.get(number, ())))
        if number not in self._held:
            self.values[-1].done.set()
        return self.values[-1]

    def join(self):
        raise self._root


class Stop:
    requested = False

    def __bool__(self):
        return self.requested


def dealer_of(coordinator, most=2, stop=False):
    return dealing.Dealer(coordinator, None, None, tf.Variable(0, dtype=tf.int64), most, stop)


def never():
    return False


def lost(task):
    return tf.errors.UnavailableError(None, None, f"Socket closed, /job:{task}/replica:0/task:1")


def test_a_slow_worker_keeps_nobody_waiting():
    """Two at once: while the first step is at work, the others go through the other worker."""
    coordinator = Coordinator(held=[0])
    dealer = dealer_of(coordinator)
    steps = dealer.run(0, 5, never)
    assert [next(steps) for _ in range(4)] == [1, 2, 3, 4]
    coordinator.values[0].done.set()
    assert list(steps) == [0]
    assert int(dealer._global_step) == 5


def test_no_more_are_dealt_out_than_were_said_to_be():
    coordinator = Coordinator(held=range(5))
    steps = dealer_of(coordinator, most=3).run(10, 15, never)
    first = threading.Thread(target=next, args=[steps])
    first.start()
    deadline = time.monotonic() + 60
    while len(coordinator.values) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(coordinator.values) == 3
    coordinator.values[1].done.set()
    first.join()
    assert len(coordinator.values) == 3
    for value in coordinator.values:
        value.done.set()
    next(steps)
    assert len(coordinator.values) == 4


@pytest.mark.parametrize("by", ["a_stop", "the_clock"])
def test_after_a_stop_what_began_is_waited_for_and_no_more_begins(by):
    coordinator, stop = Coordinator(), Stop()
    dealer = dealer_of(coordinator, most=4, stop=stop if by == "a_stop" else False)
    steps = dealer.run(7, 100, (lambda: stop.requested) if by == "the_clock" else never)
    next(steps)
    stop.requested = True
    assert len(list(steps)) == 3
    assert int(dealer._global_step) == 11
    if by == "a_stop":
        assert list(dealer.run(11, 100, never)) == []
        assert int(dealer._global_step) == 11
    else:  # Else a run that is always late would not go on.
        assert len(list(dealer.run(11, 100, lambda: True))) == 1
        assert int(dealer._global_step) == 12


def test_a_worker_that_dies_with_its_step_done_is_no_loss(monkeypatch):
    monkeypatch.setattr(dealing, "_BETWEEN_FETCHES_SECS", 0.0)
    coordinator = Coordinator(errors={1: [lost("worker")] * 3})
    assert sorted(dealer_of(coordinator).run(0, 4, never)) == [0, 1, 2, 3]
    with pytest.raises(tf.errors.UnavailableError):
        list(dealer_of(Coordinator(errors={1: [lost("ps")]})).run(0, 4, never))


def test_of_steps_that_were_taken_back_the_one_that_failed_is_told():
    cancelled = tf.errors.CancelledError(None, None, "closure is cancelled")
    root = tf.errors.DataLossError(None, None, "corrupted record")
    with pytest.raises(tf.errors.DataLossError):
        list(dealer_of(Coordinator(errors={0: [cancelled]}, root=root)).run(0, 4, never))


def test_when_no_worker_ends_a_step_it_is_told_and_a_stop_ends_it(monkeypatch, capsys):
    monkeypatch.setattr(dealing, "_PATIENCE_SECS", 0.5)
    stop = Stop()
    steps = dealer_of(Coordinator(held=[0]), most=1, stop=stop).run(0, 4, never)
    threading.Timer(3.0, lambda: setattr(stop, "requested", True)).start()
    with pytest.raises(UserError, match=r"no worker has ended a step in 0.5 s, so the last ones are not saved"):
        next(steps)
    assert capsys.readouterr().err == "warning: no worker has ended a step in 0.5 s; Ctrl-C stops the run\n"
