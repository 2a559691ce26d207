"""Shards: the same bytes in any number of runs, whole or absent, and never written over."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import command_line
import download_and_convert_data
from command_line import UserError
from data import catalog
from data.conversion import command, convert, on_this_machine, reading, shards, workers
from data.conversion.plan import BadFileError, Item

REPOSITORY = Path(convert.__file__).parents[2]


@pytest.fixture
def source(make_images):
    return make_images({"a": 20, "b": 15})


def test_parts_of_many_machines_are_those_of_one(source, run, files_of, tmp_path):
    run(source=source, num_shards=5, dataset_dir=tmp_path / "one")
    assert len(list((tmp_path / "one").glob("train-*-of-00005.tfrecord"))) == 5
    assert len(list((tmp_path / "one").glob("validation-*"))) == 1
    result, said = run(source=source, num_shards=5, shard_range="4:")
    assert result["num_missing"] == 4 and not (tmp_path / "out" / "dataset.json").exists()
    assert "4 of 6 shards are still to be written" in said[-1]
    # Another machine's folder, copied over.
    run(source=source, num_shards=5, shard_range=":3", dataset_dir=tmp_path / "other")
    shutil.copytree(tmp_path / "other", tmp_path / "out", dirs_exist_ok=True)
    result, _ = run(source=source, num_shards=5, shard_range="3:4")
    assert result["num_missing"] == 0 and result["splits"] == {"train": 31, "validation": 4}
    one, many = files_of(tmp_path / "one"), files_of(tmp_path / "out")
    del one["dataset.json"], many["dataset.json"]  # holds the folder's name
    assert one == many


def test_of_parts_at_the_same_time_the_last_makes_the_data_set(source, run, files_of, tmp_path, monkeypatch):
    """Another machine writes its shards, and finishes, after this one has looked at what is there."""
    run(source=source, num_shards=5, dataset_dir=tmp_path / "one")
    write, inner = on_this_machine.write_shards, []

    def others_too(plan, directory, shards, fingerprints, on_error):
        if not inner:
            inner.append(None)
            inner.append(run(source=source, num_shards=5, shard_range="3:")[0])
        return write(plan, directory, shards, fingerprints, on_error)

    monkeypatch.setattr(command.on_this_machine, "write_shards", others_too)
    result, _ = run(source=source, num_shards=5, shard_range=":3")
    assert inner[1]["num_missing"] == 3 and result["num_missing"] == 0
    one, many = files_of(tmp_path / "one"), files_of(tmp_path / "out")
    del one["dataset.json"], many["dataset.json"]  # holds the folder's name
    assert one == many


def test_what_another_has_finished_is_left_as_it_is(source, run, files_of, tmp_path, monkeypatch):
    """Two machines with the last shards: the first makes the data set, the second finds it made."""
    finish, inner = convert._finish_if_complete, []

    def after_the_other(*arguments):
        if not inner:
            inner.append(None)
            inner.append(run(source=source, num_shards=5)[0])
        return finish(*arguments)

    monkeypatch.setattr(convert, "_finish_if_complete", after_the_other)
    result, said = run(source=source, num_shards=5)
    assert inner[1]["num_missing"] == result["num_missing"] == 0
    assert result["splits"] == inner[1]["splits"] and "still to be written" not in " ".join(said)
    assert not (tmp_path / "out" / "unfinished").exists()


def test_worker_processes_change_nothing(source, run, files_of, tmp_path, monkeypatch):
    run(source=source)
    monkeypatch.setattr(workers, "_FEWEST_TASKS", 1)
    monkeypatch.setattr(workers, "usable_cpus", lambda: 2)
    monkeypatch.setattr(on_this_machine, "_ITEMS_PER_TASK", 3)
    run(source=source, dataset_dir=tmp_path / "parallel")
    one, two = files_of(tmp_path / "out"), files_of(tmp_path / "parallel")
    assert {name: one[name] for name in one if name != "dataset.json"} == {
        name: two[name] for name in two if name != "dataset.json"
    }


@pytest.mark.parametrize("shard_range", ["3", "a:b", "2:1", "0:7", "-1:2"])
def test_bad_shard_range(source, run, shard_range):
    with pytest.raises(UserError, match="shard_range"):
        run(source=source, num_shards=5, shard_range=shard_range)


@pytest.mark.parametrize("num_shards", [0, 32])
def test_bad_num_shards(source, run, num_shards):
    with pytest.raises(UserError, match="num_shards is 0|32 shards for the 31 images of split 'train'"):
        run(source=source, num_shards=num_shards)


def test_finished_conversion_is_left_as_it_is(source, run, files_of, tmp_path):
    run(source=source)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    _, said = run(source=source)
    assert "left as it is" in said[0]
    (source / "a" / "more.png").write_bytes((source / "a" / "000.png").read_bytes())
    with pytest.raises(UserError, match="finished conversion of data set 'out' from other files or with other sett"):
        run(source=source)
    with pytest.raises(UserError, match="other settings"):
        run(source=source, num_shards=3)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}


def test_missing_and_short_shards_are_made_again(source, run, files_of, tmp_path):
    run(source=source, num_shards=3)
    before = files_of(tmp_path / "out")
    (tmp_path / "out" / "train-00000-of-00003.tfrecord").unlink()
    (tmp_path / "out" / "train-00002-of-00003.tfrecord").write_bytes(b"short")
    result, _ = run(source=source, num_shards=3)
    assert result["num_written"] == 2
    assert files_of(tmp_path / "out") == before


def test_interrupted_conversion_goes_on(source, run, files_of, tmp_path, monkeypatch):
    run(source=source, num_shards=3, dataset_dir=tmp_path / "whole" / "out")
    taken = []

    def interrupted(item):
        taken.append(item)
        if len(taken) == 15:
            raise KeyboardInterrupt
        return reading.read_item(item)

    monkeypatch.setattr(on_this_machine, "_ITEMS_PER_TASK", 4)
    monkeypatch.setattr(workers, "read_item", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(source=source, num_shards=3)
    assert sorted(files_of(tmp_path / "out")) == ["train-00000-of-00003.tfrecord"]
    result, _ = run(source=source, num_shards=3)
    assert (result["num_kept"], result["num_written"]) == (1, 3)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole" / "out")


def test_killed_while_a_shard_is_written(source, run, tmp_path):
    """Killed without a chance to clean up: nothing under a shard's name, and the next run finishes."""
    out = tmp_path / "out"
    killing = f"""
import os, pathlib
from data.conversion import command, shards
from download_and_convert_data import ConvertConfig
shards.to_disk = lambda path: os.kill(os.getpid(), 9)
command.convert(
    ConvertConfig(dataset_name="image_folder", dataset_dir=pathlib.Path({str(out)!r}), source={str(source)!r})
)
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run([sys.executable, "-c", killing], env=environment, capture_output=True).returncode == -9
    assert not list(out.glob("*.tfrecord")) and list(out.glob(".*.partial"))
    run(source=source)
    assert catalog.open_dataset(directory=out).splits == {"train": 31, "validation": 4}
    assert not list(out.glob(".*"))


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import itertools, os\n"
        "from data.conversion import workers\n"
        "def whose(task):\n"
        "    return os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    workers.usable_cpus = lambda: 2\n"
        "    for pid in workers.map_in_order(whose, itertools.count(), 10**9):\n"
        "        print(pid, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        pids = {int(parent.stdout.readline()) for _ in range(20)}
        assert pids and parent.pid not in pids and any(map(is_running, pids))
        parent.kill()
    deadline = time.monotonic() + 20
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_running, pids))


def is_running(pid):
    """A process that nobody has waited for yet, a zombie, has ended all the same."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_other_shards_of_an_unfinished_run_go(source, run, tmp_path):
    run(source=source, num_shards=5, shard_range="0:2")
    result, _ = run(source=source, num_shards=3)
    assert result["splits"] == {"train": 31, "validation": 4}
    assert sorted(path.name for path in (tmp_path / "out").glob("train-*")) == [
        f"train-0000{number}-of-00003.tfrecord" for number in range(3)
    ]


def test_files_of_others_are_not_written_over(source, run, tmp_path):
    (tmp_path / "out").mkdir()
    shard = tmp_path / "out" / "train-00000-of-00001.tfrecord"
    shard.write_bytes(b"precious")
    with pytest.raises(UserError, match="was not written by this conversion"):
        run(source=source)
    assert shard.read_bytes() == b"precious"
    shard.rename(tmp_path / "out" / "train-more.tfrecord")
    with pytest.raises(UserError, match="train-more.tfrecord is not part of this conversion, but looks so"):
        run(source=source)


def test_data_set_of_another_program(source, run, tmp_path):
    shutil.copytree(catalog.DATASETS["digits"].directory, tmp_path / "out")
    with pytest.raises(UserError, match="holds data set 'digits', which this program did not write"):
        run(source=source)


def test_a_folder_of_others_that_is_called_unfinished_stays(run, tmp_path):
    shutil.copytree(catalog.DATASETS["digits"].directory, tmp_path / "out")
    (tmp_path / "out" / "unfinished").mkdir()
    (tmp_path / "out" / "unfinished" / "draft.txt").write_text("mine")
    with pytest.raises(UserError):
        run(source=tmp_path / "misspelt")
    assert (tmp_path / "out" / "unfinished" / "draft.txt").read_text() == "mine"


def test_bad_files_stop_or_are_left_out(source, run, tmp_path):
    for number, name in enumerate(["a/000.png", "b/003.png"]):
        (source / name).write_bytes(b"no image"[: 4 * number])
    with pytest.raises(UserError, match="2 of 35 files cannot be converted.*--on_error=skip"):
        run(source=source)
    listed = (tmp_path / "out" / "bad_files.csv").read_text().splitlines()
    assert listed[0] == "file,reason" and len(listed) == 3
    assert not (tmp_path / "out" / "dataset.json").exists()
    result, said = run(source=source, on_error="skip")
    assert result["splits"] == {"train": 29, "validation": 4} and len(result["bad_files"]) == 2
    assert any("left out 2 files" in line for line in said)
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["bad_files"] == 2


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_mended_files_are_taken_by_the_next_run(source, run, tmp_path, on_error):
    """Of the same size as before, and also where files may be left out."""
    good = (source / "a" / "000.png").read_bytes()
    (source / "a" / "000.png").write_bytes(bytes(len(good)))
    with pytest.raises(UserError, match="1 of 35"):
        run(source=source, num_shards=3)
    (source / "a" / "000.png").write_bytes(good)
    result, _ = run(source=source, num_shards=3, on_error=on_error)
    assert result["num_written"] == 1 and result["splits"] == {"train": 31, "validation": 4}
    assert not (tmp_path / "out" / "bad_files.csv").exists()


def test_a_hopeless_run_stops_early(make_images, run, monkeypatch):
    monkeypatch.setattr(on_this_machine, "_MOST_BAD_FILES_OF_A_FAILING_RUN", 5)
    monkeypatch.setattr(on_this_machine, "_ITEMS_PER_TASK", 2)
    source = make_images({"a": 10, "b": 10})
    for path in source.glob("*/*.png"):
        path.write_bytes(b"no")
    with pytest.raises(UserError, match="6 of 20 files cannot be converted before it stopped"):
        run(source=source)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk(source, run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(shards.socket, "gethostname", lambda: "host")
    full = out / f".validation-00000-of-00001.tfrecord.host-{os.getpid()}.partial"
    full.symlink_to("/dev/full")
    with pytest.raises(UserError, match="cannot write .*validation-00000.*No space left on device.*make room"):
        run(source=source)
    assert [path.name for path in out.glob("*.tfrecord")] == ["train-00000-of-00001.tfrecord"]
    assert run(source=source)[0]["num_written"] == 1


def test_folder_that_cannot_be_made(source, run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot make folder .*give another --dataset_dir|is not a directory"):
        run(source=source, dataset_dir=tmp_path / "file" / "out")


def test_a_file_that_changes(source, tmp_path):
    path = source / "a" / "000.png"
    item = Item("a/000.png", 0, str(source), -1, path.stat().st_size)
    assert reading.read_item(item) == path.read_bytes()
    with open(path, "ab") as file:
        file.write(b"more")
    with pytest.raises(BadFileError, match="it changed while it was read"):
        reading.read_item(item)


def test_unreadable_file(source, monkeypatch):
    def no_permission(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", no_permission)
    with pytest.raises(BadFileError, match="it cannot be read .Permission denied."):
        reading.read_item(Item("a/000.png", 0, str(source), -1, 10))


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({}, "give --dataset_name with --dataset_dir to convert, or --verify=DIR to check"),
        ({"dataset_name": "birds", "dataset_dir": "x"}, "unknown dataset_name 'birds': known are image_folder"),
        ({"dataset_name": "image_folder"}, "give --dataset_dir"),
    ],
)
def test_bad_flags(flags, problem):
    with pytest.raises(UserError, match=problem):
        download_and_convert_data.main(download_and_convert_data.ConvertConfig(**flags))


def test_errors_are_one_line(tmp_path, capfd):
    flags = ["--dataset_name=image_folder", f"--dataset_dir={tmp_path / 'out'}", "--source=/none"]
    with pytest.raises(SystemExit) as stopped:
        command_line.run(download_and_convert_data.main, download_and_convert_data.ConvertConfig, flags)
    expected = "error: source /none does not exist: give a folder, an archive or a CSV file\n"
    assert stopped.value.code == 1 and capfd.readouterr() == ("", expected)
