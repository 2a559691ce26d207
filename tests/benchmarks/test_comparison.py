"""Two files side by side, with samples whose verdict is known."""

import json

import pytest

import command_line
from benchmarks import comparison
from benchmarks import time_forward_backward as script
from command_line import UserError

ROW = {
    "model": "resnet_v2_50",
    "engine": "tensorflow",
    "precision": "float32",
    "batch_size": 32,
    "image_size": 224,
    "num_classes": 1000,
    "dataset": "synthetic",
    "pass": "forward",
}


NO_DIFFERENCE = "no difference that the samples support"


def write(path, *rows, **environment):
    document = {"environment": environment, "results": [{**ROW, **row} for row in rows]}
    path.write_text(json.dumps(document))
    return path


def compare(tmp_path, before, after, *flags):
    """Exit status of the script on two files of one row each."""
    first = write(tmp_path / "a.json", {"step_seconds": before})
    second = write(tmp_path / "b.json", {"step_seconds": after})
    with pytest.raises(SystemExit) as ending:
        command_line.run(script.main, script.TimingConfig, ["--compare", str(first), str(second), *flags])
    return ending.value.code


@pytest.mark.parametrize(
    ("before", "after", "verdict", "ratio"),
    [
        # Of 7 samples the range covers 1 - 2 / 2**7 of medians; two such are right together with 0.969.
        ([1.0] * 7, [2.0] * 7, "slower", "B/A 2.000 (97 % 2.000 to 2.000)"),
        ([2.0] * 7, [1.0] * 7, "faster", "B/A 0.500 (97 % 0.500 to 0.500)"),
        ([1, 2, 2, 2, 2, 2, 3], [1, 2, 2, 2, 2, 2, 3], NO_DIFFERENCE, "B/A 1.000 (97 % 0.333 to 3.000)"),
        ([1.0] * 6, [9.0] * 6, "too few samples to tell", "B/A 9.000 (94 % 9.000 to 9.000)"),
        ([1.0], [9.0], "too few samples to tell", "B/A 9.000 (no interval)"),
    ],
)
def test_verdicts(tmp_path, capsys, before, after, verdict, ratio):
    assert compare(tmp_path, before, after) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("resnet_v2_50 forward, tensorflow, float32, batch 32, 224 x 224: ")
    assert line.endswith(f"{ratio}: {verdict}")


@pytest.mark.parametrize(
    ("after", "percent", "status"),
    [
        ([1.1] * 7, "5", 1),
        ([1.1] * 7, "15", 0),
        ([0.9] * 7, "0", 0),
        ([0.5, 1.1, 1.1, 1.1, 1.1, 1.1, 9.0], "5", 0),  # Slower in the median, but the samples do not support it.
        ([], "5", 1),  # It ran out of memory.
    ],
)
def test_a_regression_is_exit_status_1(tmp_path, capsys, after, percent, status):
    assert compare(tmp_path, [1.0] * 7, after, "--fail_on_regression", percent) == status
    err = capsys.readouterr().err
    assert err.count("\n") == status
    assert ("is slower by more than" in err) == bool(status)


def test_a_regression_is_not_judged_by_too_few_samples(tmp_path, capsys):
    assert compare(tmp_path, [1.0] * 5, [2.0] * 5, "--fail_on_regression", "5") == 1
    assert "has too few samples to tell: time 7 steps or more in each file" in capsys.readouterr().err


def test_rows_of_one_file_are_compared_round_by_round(tmp_path):
    """Times double in the second round and triple in the third; B takes 1.5, 1.25 and 2 times as long as A."""
    rows = [
        {"model": "a", "step_seconds": [1.0, 1.0, 2.0, 2.0, 3.0], "round_steps": [2, 2, 1]},
        {"model": "b", "step_seconds": [1.5, 1.5, 2.5, 2.5, 6.0], "round_steps": [2, 2, 1]},
        {"model": "a", "batch_size": 1, "step_seconds": [0.1], "round_steps": [1]},
        {"model": "b", "step_seconds": [], "pass": "train_step", "error": "out of memory: x"},
        {"model": "a", "step_seconds": [1.0], "pass": "train_step"},
    ]
    rows = [{"parameters": 1, "multiply_adds": 1, "burn_in": 0, **row} for row in rows]
    path = write(tmp_path / "a.json", *rows)
    forward, failed = comparison.compare_rows(comparison.read(path))
    assert forward.per_round == (1.5, 1.25, 2.0) and forward.ratio == 1.5
    assert (forward.medians, forward.verdict) == ((2.0, 2.5), "too few samples to tell")
    assert (forward.interval.low, forward.interval.high) == (1.25, 2.0)
    assert forward.label == "b forward, tensorflow, float32, batch 32, 224 x 224, against model a"
    assert failed.verdict == "A failed"


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"step_seconds": [1.0]}], "no two rows of the same pass"),
        ([{"step_seconds": [1.0]}, {"step_seconds": [1.0], "folded": True}], "time them with --rounds"),
    ],
)
def test_one_file_without_rounds(tmp_path, capsys, rows, complaint):
    path = write(tmp_path / "a.json", *rows)
    with pytest.raises(SystemExit) as ending:
        command_line.run(script.main, script.TimingConfig, ["--compare", str(path)])
    assert ending.value.code == 1 and complaint in capsys.readouterr().err


def test_a_pass_that_failed_says_so(tmp_path, capsys):
    assert compare(tmp_path, [1.0], []) == 0
    assert capsys.readouterr().out.endswith(": B failed\n")


def test_only_the_same_configurations_are_compared(tmp_path):
    first = write(tmp_path / "a.json", {"step_seconds": [1.0]}, {"pass": "train_step", "step_seconds": [3.0]})
    second = write(tmp_path / "b.json", {"step_seconds": [2.0]}, {"folded": True, "step_seconds": [9.0]})
    documents = comparison.read(first), comparison.read(second)
    rows, alone = comparison.compare(*documents)
    assert [row.medians for row in rows] == [(1.0, 2.0)]
    assert len(alone) == 2 and "train_step" in alone[0] and alone[1].endswith("folded")


def test_rows_of_files_before_forward_mode_and_folded_had_a_name(tmp_path):
    """ROW has neither; the newer file names what the older one did."""
    first = write(tmp_path / "a.json", {"step_seconds": [1.0]})
    second = write(tmp_path / "b.json", {"forward_mode": "inference", "folded": False, "step_seconds": [2.0]})
    rows, alone = comparison.compare(comparison.read(first), comparison.read(second))
    assert (rows[0].ratio, alone) == (2.0, [])


def test_what_differs_between_the_machines_is_said(tmp_path):
    first = write(tmp_path / "a.json", {"step_seconds": [1.0]}, kernel="Linux 6", started="then")
    second = write(tmp_path / "b.json", {"step_seconds": [1.0]}, kernel="Linux 7", started="now")
    documents = comparison.read(first), comparison.read(second)
    lines = list(comparison.describe(*comparison.compare(*documents), documents))
    assert lines[0] == '# kernel differs: A "Linux 6", B "Linux 7"'
    assert len(lines) == 2


def test_rows_of_each_round_are_one_configuration(tmp_path):
    """As a run with rounds that was interrupted leaves them."""
    first = write(tmp_path / "a.json", {"step_seconds": [1.0] * 4}, {"step_seconds": [9.0] * 5})
    second = write(tmp_path / "b.json", {"step_seconds": [3.0] * 7})
    (row,), alone = comparison.compare(comparison.read(first), comparison.read(second))
    assert (row.medians, alone) == ((9.0, 3.0), [])


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        comparison.read(tmp_path / "missing.json")
    for text in ("no json", "[]", "{}", '{"results": [{"model": "a"}]}', '{"results": [{"step_seconds": [1]}]}'):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(UserError, match="is no file of step times"):
            comparison.read(tmp_path / "a.json")
    first = write(tmp_path / "a.json", {"step_seconds": [1.0]})
    second = write(tmp_path / "b.json", {"batch_size": 1, "step_seconds": [1.0]})
    with pytest.raises(UserError, match="no configuration in common"):
        comparison.compare(comparison.read(first), comparison.read(second))
