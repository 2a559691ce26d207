"""The printed lines, to the letter."""

import datetime

import pytest

from benchmarks import printing, results

SETUP = results.Setup(
    model="resnet_v2_152",
    engine="tensorflow",
    precision="float32",
    batch_size=32,
    image_size=224,
    num_classes=1000,
    parameters=60_236_904,
    multiply_adds=10_907_000_000,
)

NOW = "2026-11-22 03:04:05.000000"  # A whole second, which str() would print without its zeros.


def make_printer(num_batches):
    now = datetime.datetime.fromisoformat(NOW)
    return printing.Printer(burn_in=2, num_batches=num_batches, now=lambda: now)


def replay(printer, pass_name, step_seconds):
    printer.pass_started(pass_name)
    for index, seconds in enumerate([60.0, 60.0, *step_seconds], start=-2):
        printer.step(pass_name, index, seconds)


@pytest.mark.parametrize(("pass_name", "label"), [("forward", "Forward"), ("forward_backward", "Forward-backward")])
def test_every_tenth_step_after_burn_in_and_the_result(capsys, pass_name, label):
    step_seconds = [9.0, *[9.5] * 20, 10.0]
    with make_printer(22) as printer:
        replay(printer, pass_name, step_seconds)
        printer.pass_finished(results.Result(SETUP, pass_name, 2, tuple(step_seconds)))
    lines = capsys.readouterr().out.splitlines()
    # Sum of squares 2 x 0.25 over 22 - 1: 0.1543.
    assert lines[:4] == [
        f"{NOW}: step 0, duration = 9.000",
        f"{NOW}: step 10, duration = 9.500",
        f"{NOW}: step 20, duration = 9.500",
        f"{NOW}: {label} across 22 steps, 9.500 +/- 0.154 sec / batch",
    ]
    assert lines[4].startswith(f"# {label}: n 22 after 2 of burn-in, median 9.500000 s, min 9.000000 s, ")
    assert "3.37 images/s" in lines[4]
    assert len(lines) == 5


def test_a_single_step(capsys):
    with make_printer(1) as printer:
        replay(printer, "forward", [0.25])
        printer.pass_finished(results.Result(SETUP, "forward", 2, (0.25,)))
    assert f"{NOW}: Forward across 1 steps, 0.250 +/- n/a sec / batch\n" in capsys.readouterr().out


def test_the_header_says_what_is_timed():
    line = printing.describe_setup(SETUP)
    assert line.startswith("resnet_v2_152, batch 32, 224 x 224, float32, 1000 classes; 60,236,904 parameters, 10.907 G")
    assert "\n" not in line


def test_an_interrupted_pass_tells_what_it_has(capsys):
    with make_printer(100) as printer:
        replay(printer, "forward", [1.0, 2.0, 3.0])
        printer.interrupted()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "# interrupted: Forward across 3 of 100 steps, 2.000 +/- 1.000 sec / batch"


def test_interrupted_in_burn_in_or_between_passes_there_is_nothing_to_tell(capsys):
    with make_printer(1) as printer:
        printer.pass_started("forward")
        printer.step("forward", -2, 1.0)
        printer.interrupted()
        printer.step("forward", 0, 1.0)
        printer.pass_finished(results.Result(SETUP, "forward", 2, (1.0,)))
        printer.interrupted()
    assert "interrupted" not in capsys.readouterr().out


def test_a_file_gets_no_progress_bar(capsys):
    with make_printer(3) as printer:
        replay(printer, "forward", [1.0, 2.0, 3.0])
    assert capsys.readouterr().err == ""
