"""The folder of a run: what is kept, in what order, and who may write."""

import errno
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

from command_line import UserError
from nets import checkpoints
from training import run_description, run_folder
from training.run_folder import RunFolder

ROOT = pathlib.Path(__file__).parents[2]


def values(number):
    return {"global_step": np.int64(number), "net/weights": np.full([2, 3], number, np.float32)}


def save_all(folder, steps):
    for step in steps:
        folder.save(step, values(step))
        folder.wait()


def steps_in(path):
    return sorted(int(file.name.removeprefix("model.ckpt-").removesuffix(".index")) for file in path.glob("*.index"))


def test_the_run_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """What is saved are the values at the call, whatever the run makes of its variables meanwhile."""
    weight, may_write, write = tf.Variable([1.0, 2.0]), threading.Event(), checkpoints.write

    def delayed(prefix, values):
        assert may_write.wait(30)
        write(prefix, values)

    monkeypatch.setattr(checkpoints, "write", delayed)
    with RunFolder(tmp_path) as folder:
        prefix = folder.save(1, {"net/weights": weight})
        weight.assign_sub([0.5, 0.5])
        tf.raw_ops.ResourceApplyGradientDescent(var=weight.handle, alpha=1.0, delta=[1.0, 1.0])
        assert steps_in(tmp_path) == []
        may_write.set()
        folder.wait()
        assert steps_in(tmp_path) == [1]
    np.testing.assert_array_equal(weight, [-0.5, 0.5])
    np.testing.assert_array_equal(tf.train.load_checkpoint(str(prefix)).get_tensor("net/weights"), [1.0, 2.0])


def test_the_last_one_is_not_lost_where_the_run_ends_with_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), RunFolder(tmp_path) as folder:
        folder.save(1, values(1))
        raise ZeroDivisionError
    assert steps_in(tmp_path) == [1]


def test_an_empty_folder_is_made_and_has_no_newest(tmp_path):
    path = tmp_path / "runs" / "new"
    with RunFolder(path) as folder:
        assert path.is_dir()
        assert folder.newest() is None


def test_what_is_saved_is_read_back(tmp_path):
    with RunFolder(tmp_path) as folder:
        prefix = folder.save(7, values(7))
        assert prefix == tmp_path / "model.ckpt-7" == folder.newest()
    reader = tf.train.load_checkpoint(str(prefix))
    np.testing.assert_array_equal(reader.get_tensor("net/weights"), values(7)["net/weights"])
    assert reader.get_tensor("global_step") == 7


def test_the_newest_is_the_highest_number_not_the_last_name(tmp_path):
    """As text, 9 comes after 10 and 100."""
    with RunFolder(tmp_path) as folder:
        save_all(folder, [9, 10, 100])
        assert folder.newest() == tmp_path / "model.ckpt-100"
    with RunFolder(tmp_path) as folder:
        assert folder.newest() == tmp_path / "model.ckpt-100"


def test_the_lowest_numbers_go_first(tmp_path):
    with RunFolder(tmp_path, keep_checkpoints=2) as folder:
        save_all(folder, [8, 9, 10, 11])
    assert steps_in(tmp_path) == [10, 11]
    names = {file.name for file in tmp_path.iterdir()} - {".lock", "checkpoint"}
    assert names == {f"model.ckpt-{step}.{end}" for step in (10, 11) for end in ("index", "data-00000-of-00001")}


def test_a_deletion_takes_no_neighbour_with_it(tmp_path):
    """1 goes, 10 and 100 begin alike."""
    with RunFolder(tmp_path, keep_checkpoints=2) as folder:
        save_all(folder, [1, 10, 100])
    assert steps_in(tmp_path) == [10, 100]
    assert tf.train.load_checkpoint(str(tmp_path / "model.ckpt-10")).get_tensor("global_step") == 10


def test_a_folder_that_could_not_be_read_is_not_begun(tmp_path):
    with pytest.raises(UserError, match="TensorFlow could write but not read"), RunFolder(tmp_path / "lr[0.1]"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, capsys):
    def no_lock(file, kind):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(run_folder.fcntl, "flock", no_lock)
    with RunFolder(tmp_path) as folder:
        save_all(folder, [1])
    assert steps_in(tmp_path) == [1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path} cannot be locked ([Errno {errno.ENOSYS}]")


@pytest.mark.parametrize("content", ["", '{"step": 3, "fini'])
def test_an_evaluation_that_a_power_loss_cut_off_is_none(tmp_path, content):
    (tmp_path / "evaluation.json").write_text(content, encoding="utf-8")
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    assert run_folder.read_evaluation(tmp_path) is None
    assert run_description.read(tmp_path) == {}


def test_a_later_run_keeps_fewer(tmp_path):
    with RunFolder(tmp_path, keep_checkpoints=5) as folder:
        save_all(folder, range(1, 5))
    with RunFolder(tmp_path, keep_checkpoints=1) as folder:
        save_all(folder, [5])
    assert steps_in(tmp_path) == [5]


def test_foreign_files_are_let_be(tmp_path):
    kept = ["notes.txt", "model.ckpt-best.index", "model.ckpt-3.index.bak", "other.ckpt-99.index"]
    for name in kept:
        (tmp_path / name).write_text("mine", encoding="utf-8")
    with RunFolder(tmp_path, keep_checkpoints=1) as folder:
        assert folder.newest() is None
        save_all(folder, [4, 5])
        assert folder.newest() == tmp_path / "model.ckpt-5"
    assert all((tmp_path / name).read_text(encoding="utf-8") == "mine" for name in kept)


@pytest.mark.parametrize("relative", [False, True])
def test_tensorflows_own_tools_find_the_newest(tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    path = pathlib.Path("runs/a") if relative else tmp_path / "runs" / "a"
    with RunFolder(path, keep_checkpoints=2) as folder:
        save_all(folder, [8, 9, 10])
    newest = tf.train.latest_checkpoint(str(path))
    assert pathlib.Path(newest).resolve() == (tmp_path / "runs" / "a" / "model.ckpt-10").resolve()
    state = tf.train.get_checkpoint_state(str(path))
    assert [pathlib.Path(name).name for name in state.all_model_checkpoint_paths] == ["model.ckpt-9", "model.ckpt-10"]
    assert checkpoints.find(path) == newest


def test_a_folder_of_another_program_means_its_own_checkpoint_after_a_copy(tmp_path, capfd):
    """TensorFlow 1 wrote full paths into the state file."""
    with RunFolder(tmp_path / "a") as folder:
        save_all(folder, [3])
    state = f'model_checkpoint_path: "{tmp_path}/a/model.ckpt-3"\n'
    (tmp_path / "a" / "checkpoint").write_text(state, encoding="utf-8")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert checkpoints.find(tmp_path / "b") == str(tmp_path / "b" / "model.ckpt-3")
    shutil.rmtree(tmp_path / "a")
    assert checkpoints.find(tmp_path / "b") == str(tmp_path / "b" / "model.ckpt-3")
    (tmp_path / "b" / "model.ckpt-3.index").unlink()
    with pytest.raises(UserError, match="no checkpoint in folder"):
        checkpoints.find(tmp_path / "b")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("original_stays", [False, True])
def test_a_moved_or_copied_folder_means_its_own_checkpoint(tmp_path, monkeypatch, relative, original_stays):
    monkeypatch.chdir(tmp_path)
    path = pathlib.Path("a") if relative else tmp_path / "a"
    with RunFolder(path) as folder:
        save_all(folder, [3])
    (shutil.copytree if original_stays else shutil.move)(path, tmp_path / "b")
    found = pathlib.Path(checkpoints.find(tmp_path / "b")).resolve()
    assert found == (tmp_path / "b" / "model.ckpt-3").resolve()
    # TensorFlow's own tools, too, which trust the state file.
    assert pathlib.Path(tf.train.latest_checkpoint(str(tmp_path / "b"))).resolve() == found


def test_a_stop_between_writing_and_deleting_leaves_a_folder_that_is_found(tmp_path, monkeypatch):
    """As if killed at the first deletion: what the state file names must still be there."""
    with RunFolder(tmp_path, keep_checkpoints=1) as folder:
        save_all(folder, [1])

        def killed(path, missing_ok=False):
            unlink(path)
            raise KeyboardInterrupt

        unlink = pathlib.Path.unlink
        monkeypatch.setattr(run_folder.pathlib.Path, "unlink", killed)
        folder.save(2, values(2))
        with pytest.raises(KeyboardInterrupt):
            folder.wait()
    monkeypatch.undo()
    assert checkpoints.find(tmp_path) == str(tmp_path / "model.ckpt-2")


def test_what_a_killed_save_left_is_cleared_away(tmp_path):
    left = tmp_path / ".saving-abc"
    left.mkdir()
    (left / "model.ckpt-5.data-00000-of-00001").write_bytes(b"half of it")
    with RunFolder(tmp_path) as folder:
        assert folder.newest() is None
        assert not left.exists()


def test_a_file_in_the_place_of_the_folder(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"--train_dir .*file is a file, expected a folder"), RunFolder(path):
        pass
    assert path.read_text(encoding="utf-8") == "mine"


def test_an_error_while_saving_leaves_the_earlier_ones(tmp_path, monkeypatch):
    def full(**arguments):
        raise tf.errors.ResourceExhaustedError(None, None, "disk full\nstack")

    with RunFolder(tmp_path, keep_checkpoints=1) as folder:
        save_all(folder, [1])
        monkeypatch.setattr(checkpoints.tf.raw_ops, "SaveV2", full)
        folder.save(2, values(2))
        with pytest.raises(UserError, match="model.ckpt-2 could not be written: disk full; nothing was changed"):
            folder.save(3, values(3))
        assert folder.newest() == tmp_path / "model.ckpt-1"
    assert {file.name for file in tmp_path.iterdir()} == {
        ".lock",
        "checkpoint",
        "model.ckpt-1.index",
        "model.ckpt-1.data-00000-of-00001",
    }


HOLD = """
import sys, time
from training.run_folder import RunFolder
with RunFolder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_of_the_first(tmp_path, holder):
    with pytest.raises(UserError, match="another run writes into .*; wait for it, or give .* another --train_dir"):
        RunFolder(tmp_path).__enter__()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_no_lock(tmp_path, holder, number):
    holder.send_signal(number)
    holder.wait()
    with RunFolder(tmp_path) as folder:
        save_all(folder, [1])


def test_one_process_cannot_open_it_twice_either(tmp_path):
    with RunFolder(tmp_path), pytest.raises(UserError, match="another run writes"), RunFolder(tmp_path):
        pass


def test_the_lock_goes_with_the_body(tmp_path):
    with pytest.raises(RuntimeError), RunFolder(tmp_path):
        raise RuntimeError
    with RunFolder(tmp_path):
        pass
