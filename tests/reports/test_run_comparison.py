"""Errors of several runs in one figure: what is read of a run, and what is said of them."""

import json

import numpy as np
import pytest

import command_line
from command_line import UserError
from reports import run_comparison

PNG = b"\x89PNG\r\n\x1a\n"


def write_run(folder, train, tests):
    """A run of 10 steps an epoch; `train` and `tests` are pairs of step and top-1."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"steps_per_epoch": 10}))
    rows = [{"kind": "train", "step": step, "top_1": top_1} for step, top_1 in train]
    rows += [{"kind": "evaluation", "step": step, "top_1": top_1, "count": 8} for step, top_1 in tests]
    (folder / "curves.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def test_errors_are_in_percent_by_epoch(tmp_path):
    run = run_comparison.read(write_run(tmp_path / "a", [(5, 0.25), (10, 0.5)], [(10, 0.375)]))
    np.testing.assert_allclose(run.train, [[0.5, 75], [1, 50]])
    np.testing.assert_allclose(run.evaluations, [[1, 62.5]])
    assert (run.name, run.count) == ("a", 8)


def test_evaluations_of_another_split_before_are_left_out(tmp_path):
    folder = write_run(tmp_path / "a", [(30, 0.5)], [])
    rows = [{"kind": "evaluation", "step": 10 * epoch, "top_1": top_1, "count": 8, "split": split}
            for epoch, top_1, split in ((1, 0.75, "validation"), (2, 0.5, "test"), (3, 0.625, "test"))]  # fmt: skip
    with open(folder / "curves.jsonl", "a") as file:
        file.write("".join(f"{json.dumps(row)}\n" for row in rows))
    np.testing.assert_allclose(run_comparison.read(folder).evaluations, [[2, 50], [3, 37.5]])


def test_the_table_has_last_and_best(tmp_path, capsys):
    folders = [
        write_run(tmp_path / "good", [(10, 0.5), (20, 0.75)], [(10, 0.875), (20, 0.625)]),
        write_run(tmp_path / "poor", [(10, 0.25)], [(10, 0.125)]),
    ]
    output = tmp_path / "new" / "errors.png"
    with pytest.raises(SystemExit) as ending:
        arguments = [*map(str, folders), f"--output={output}"]
        command_line.run(run_comparison.main, run_comparison.ComparisonConfig, arguments)
    assert ending.value.code == 0
    _, good, poor, _ = capsys.readouterr().out.splitlines()
    assert good.split() == ["good", "2.0", "25.00", "%", "37.50", "%", "12.50", "8"]
    assert poor.split() == ["poor", "1.0", "75.00", "%", "87.50", "%", "87.50", "8"]
    assert output.read_bytes().startswith(PNG)


@pytest.mark.parametrize("train, tests", [([], []), ([(10, 0.5)], [])], ids=["empty", "not evaluated"])
def test_a_folder_without_a_run_is_named(tmp_path, train, tests):
    folder = write_run(tmp_path / "a", train, tests)
    with pytest.raises(UserError, match="a holds no run that was evaluated"):
        run_comparison.read(folder)
