"""Lines of a run where there is no terminal. (On a terminal: test_scripts.py.)"""

import pytest

from training.meter import PHASES, Measured, Meter, shares_text
from training.progress import Progress

METRICS = {"loss": 1.5, "cross_entropy": 1.25, "top_1": 0.5, "learning_rate": 0.0125}


def test_a_line_holds_all_that_is_known(capsys):
    with Progress(0, 200) as progress:
        progress.step(99)
        progress.log(100, Measured(10, METRICS, 31.4, 3661.2, {"step": 95.0, "input": 4.8, "summary": 0.2}))
        progress.say("said [bold]as it is[/bold]")
    assert capsys.readouterr().out.splitlines() == [
        "step 100/200  loss 1.5000 (cross-entropy 1.2500)  train top-1 0.5000  rate 0.0125  31 images/s  1:01:01 left"
        "  time: step 95 %, input 5 %",
        "said [bold]as it is[/bold]",
    ]


def test_before_a_step_was_timed_there_is_no_pace(capsys):
    with Progress(0, 200) as progress:
        progress.log(1, Measured(1, METRICS, None, None, {"start": 3.0}))
    assert capsys.readouterr().out.endswith("rate 0.0125  - images/s  time: start 100 %\n")


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to go on."""

    class Clock:
        now = 100.0

    monkeypatch.setattr("training.meter.time.monotonic", lambda: Clock.now)
    return Clock


def metrics(loss, rate=0.1):
    return {"loss": loss, "cross_entropy": loss - 1, "top_1": 0.5, "learning_rate": rate}


def test_the_meter_means_over_the_steps_since_the_last_line(clock):
    meter = Meter(first_step=0, total_steps=10, batch_size=8)
    meter.enter("input")
    meter.enter("step")
    clock.now += 60  # The first step traces the network.
    meter.add(metrics(2.0))
    for loss in (3.0, 7.0):
        meter.enter("input")
        clock.now += 0.5
        meter.enter("step")
        clock.now += 1.5
        meter.add(metrics(loss, rate=0.05))
    assert meter.losses_since_log() == [2.0, 3.0, 7.0]
    measured = meter.take(3)
    assert measured.metrics == {"loss": 4.0, "cross_entropy": 3.0, "top_1": 0.5, "learning_rate": 0.05}
    # Two timed steps of two seconds; seven steps are left.
    assert (measured.steps, measured.images_per_second, measured.seconds_left) == (3, 4.0, 14.0)
    nothing = dict.fromkeys(PHASES, 0.0)
    assert measured.seconds == nothing | {"start": 60.0, "input": 1.0, "step": 3.0}
    assert meter.losses_since_log() == []

    clock.now += 1
    meter.add(metrics(1.0))
    meter.enter("checkpoint")
    clock.now += 7
    meter.enter("evaluation")
    clock.now += 1000
    assert meter.take_seconds() == nothing | {"step": 1.0, "checkpoint": 7.0, "evaluation": 1000.0}
    meter.enter("step")
    clock.now += 1
    meter.add(metrics(1.0))
    measured = meter.take(5)
    assert (measured.metrics["loss"], measured.images_per_second, measured.seconds_left) == (1.0, 8.0, 5.0)
    assert measured.seconds == nothing | {"step": 1.0}
    # Four timed steps in six seconds.
    assert meter.images_per_second_of_all == pytest.approx(4 * 8 / 6)
    assert meter.seconds == {
        "start": 60.0,
        "input": 1.0,
        "step": 5.0,
        "summary": 0.0,
        "checkpoint": 7.0,
        "evaluation": 1000.0,
    }


def test_the_meter_knows_no_pace_before_the_second_step(clock):
    meter = Meter(first_step=5, total_steps=10, batch_size=8)
    assert meter.images_per_second_of_all is None
    meter.add(metrics(2.0))
    clock.now += 1
    measured = meter.take(6)
    assert (measured.images_per_second, measured.seconds_left) == (None, None)
    assert meter.images_per_second_of_all is None


def test_shares_are_read_from_the_largest_down():
    seconds = {"start": 0.0, "input": 1.0, "step": 98.7, "checkpoint": 0.3}
    assert shares_text(seconds) == "step 99 %, input 1 %"
    assert shares_text(seconds, decimals=2) == "step 98.70 %, input 1.00 %, checkpoint 0.30 %, start 0.00 %"
