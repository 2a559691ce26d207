"""Figures that follow from step times, and the file that keeps them."""

import csv
import dataclasses
import json
import resource
import signal

import pytest

from benchmarks import grid, results
from command_line import UserError

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


def make_result(*step_seconds, pass_name="forward"):
    return results.Result(SETUP, pass_name, burn_in=10, step_seconds=step_seconds)


def test_the_speed_of_a_known_run():
    # 2 x 10.907 G x 32 images / 9.112 s.
    result = make_result(9.112)
    assert result.images_per_second == pytest.approx(3.5118, abs=1e-4)
    assert result.gigaflops_per_second == pytest.approx(76.6, abs=0.05)


def test_forward_backward_counts_three_forward_passes():
    forward, both = make_result(9.112), make_result(9.112, pass_name="forward_backward")
    assert both.gigaflops_per_second == pytest.approx(3 * forward.gigaflops_per_second)


def test_one_disturbed_step_leaves_the_speed():
    assert make_result(8.0, 8.0, 80.0).images_per_second == 4.0


def test_json_keeps_every_time_to_the_last_bit(tmp_path):
    step_seconds = (0.1, 0.2, 0.1 + 0.2)
    path = tmp_path / "out.json"
    results.write_json(path, {"commit": None}, [make_result(*step_seconds), make_result(1.0)])
    document = json.loads(path.read_text())
    assert document["environment"] == {"commit": None}
    first, second = document["results"]
    assert first["step_seconds"] == list(step_seconds)
    assert first["pass"] == "forward"
    assert first["model"] == "resnet_v2_152"
    assert first["statistics"]["median"] == 0.2
    assert second["statistics"]["standard_deviation"] is None
    assert [child.name for child in tmp_path.iterdir()] == ["out.json"]


def test_a_failed_write_leaves_the_previous_file(tmp_path):
    path = tmp_path / "out.json"
    path.write_text("previous")
    with pytest.raises(TypeError):
        results.write_json(path, {"commit": object()}, [])
    # Half of it is written when the disk is full.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(UserError, match="out.json could not be written: .*; make room"):
            results.write_json(path, {"commit": "x" * 100_000}, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "previous"
    assert [child.name for child in tmp_path.iterdir()] == ["out.json"]


def test_places_for_results_that_cannot_be(tmp_path):
    with pytest.raises(UserError, match="--json .* not a regular file"):
        results.check_path(tmp_path)
    with pytest.raises(UserError, match="--json .* does not exist"):
        results.check_path(tmp_path / "missing" / "out.json")
    results.check_path(tmp_path / "out.json")


def test_traffic_is_every_value_once_and_weights_once_a_batch():
    setup = results.Setup(
        "a", "tensorflow", "bfloat16", 32, 224, 1000, 1, 1, activation_values=10_000_000, weight_values=5_000_000
    )
    result = results.Result(setup, "forward_backward", 0, (0.5,))
    # 2 bytes x (32 x 10 M + 5 M) x 3 passes / 0.5 s.
    assert result.gigabytes_per_second == pytest.approx(3.9)


def test_csv_has_a_row_for_each_time_and_the_environment_above(tmp_path):
    path = tmp_path / "out.csv"
    configuration = grid.Configuration("resnet_v2_50", "xla", "float32", 8, 224, 1000)
    failure = results.Failure(configuration, "forward", "out of memory: of tensor [1,2]")
    timed = dataclasses.replace(make_result(0.1, 0.1 + 0.2, 0.4), round_steps=(2, 1))
    results.write_csv(path, {"kernel": "Linux 6", "threads": {"intra_op": 2}}, [timed, failure])
    lines = path.read_text().splitlines()
    assert lines[:2] == ["# kernel: Linux 6", '# threads: {"intra_op": 2}']
    rows = list(csv.DictReader(lines[2:]))
    assert [(row["round"], row["step"]) for row in rows] == [("1", "0"), ("1", "1"), ("2", "0"), ("", "")]
    assert [row["seconds"] for row in rows] == ["0.1", "0.30000000000000004", "0.4", ""]
    assert [row["model"] for row in rows] == ["resnet_v2_152"] * 3 + ["resnet_v2_50"]
    assert rows[3]["error"] == "out of memory: of tensor [1,2]"


def test_a_row_of_a_file_is_the_result_again():
    result = results.Result(SETUP, "train_step", 3, (0.5, 0.25, 1.0), 2.0, 1.0, 2**30, 0.01, ("busy",), (2, 1))
    assert results.from_json(json.loads(json.dumps(result.to_json()))) == result
    configuration = grid.Configuration("resnet_v2_50", "xla", "float32", 8, 224, 1000)
    row = results.Failure(configuration, "forward", "out of memory").to_json()
    assert results.from_json(row).to_json() == row


@pytest.mark.parametrize("wrong", [{"pass": "backward"}, {"step_seconds": []}, {"step_seconds": [0.0]}, {"burn_in": 0}])
def test_rows_of_something_else(wrong):
    row = {**make_result(1.0).to_json(), **wrong}
    if "burn_in" in wrong:
        del row["multiply_adds"]
    with pytest.raises((KeyError, TypeError, ValueError)):
        results.from_json(row)


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_what_was_finished_outlives_an_error(tmp_path, capsys, error):
    path, done = tmp_path / "out.json", []
    with pytest.raises(error), results.finished_kept(path, results.write_json, {"commit": None}, done):
        done.append(make_result(1.0))
        raise error
    kept = json.loads((tmp_path / "out.unfinished.json").read_text())
    assert kept["environment"] == {"commit": None} and [row["step_seconds"] for row in kept["results"]] == [[1.0]]
    assert capsys.readouterr().err == f"1 finished rows are in {tmp_path / 'out.unfinished.json'}\n"


def test_nothing_finished_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), results.finished_kept(tmp_path / "a.json", results.write_json, {}, []):
        raise KeyboardInterrupt
    with results.finished_kept(tmp_path / "a.json", results.write_json, {}, [make_result(1.0)]):
        pass
    assert not list(tmp_path.iterdir())
