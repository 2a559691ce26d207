"""The folder of a run: its checkpoints, its description, its lock."""

import concurrent.futures
import fcntl
import os
import pathlib
import shutil
import sys

import tensorflow as tf

from command_line import UserError
from nets import checkpoints
from training import mistakes, watching
from whole_files import read_json, write_json

EVALUATION = "evaluation.json"


def read_evaluation(path):
    """What a run's folder says of its last evaluation, as `RunFolder.note` wrote it; None without one."""
    return read_json(pathlib.Path(path) / EVALUATION)


def checkpoint_prefix(path, step):
    """The prefix of the checkpoint of a step in a run's folder."""
    return pathlib.Path(path) / f"{checkpoints.NAME}-{step}"


class RunFolder:
    """A folder that one run at a time writes checkpoints into; a context manager that holds its lock.

    A thread writes checkpoints, one at a time, while the run goes on. Whether the last one succeeded is known after
    `wait`, and at the latest when the context ends.

    Attributes:
      path: The folder.
      is_ours: Whether this process may touch it; if not, the folder appears empty.
    """

    def __init__(self, path, keep_checkpoints=5, is_ours=True):
        self.path = pathlib.Path(path)
        self.is_ours = is_ours
        self._keep_checkpoints = keep_checkpoints
        self._writer = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing = None

    def __enter__(self):
        """Makes the folder and locks it.

        Raises:
          UserError: If the path is a file, or another process holds the lock.
        """
        if not self.is_ours:
            return self
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--train_dir {self.path} is a file, expected a folder; name another")
        checkpoints.check_readable_name(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.path / ".lock", "w")  # noqa: SIM115 - held until __exit__
        try:
            # The system drops the lock when the process ends, however it ends, so no stale lock is left behind.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise UserError(
                f"another run writes into {self.path}; wait for it, or give this one another --train_dir"
            ) from error
        except OSError as error:  # Some network file systems have no locks.
            text = f"warning: {self.path} cannot be locked ({error}): let one run at a time write there"
            print(text, file=sys.stderr)
        for left in self.path.glob(f"{checkpoints.UNFINISHED}*"):  # By a run that was killed while it saved.
            shutil.rmtree(left, ignore_errors=True)
        return self

    def __exit__(self, kind, error, trace):
        try:
            self.wait()
        except UserError as failure:
            if kind is None:
                raise
            # The error that ends the run is the one raised.
            print(f"warning: {failure}", file=sys.stderr)
        finally:
            if self.is_ours:
                self._lock.close()

    def wait(self):
        """Waits until the checkpoint that is being written is complete.

        Raises:
          UserError: If it could not be written; the older ones stay.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def newest(self):
        """The prefix of the checkpoint with the highest step, or None; waits for one that is being written."""
        self.wait()
        steps = self._steps()
        return self._prefix(steps[-1]) if steps else None

    def save(self, step, values):
        """Starts to write a checkpoint of the current values, after which the oldest beyond the number to keep go.

        Args:
          step: Steps done.
          values: A dict of name -> variable.

        Returns:
          Its prefix; the checkpoint is complete after `wait`.

        Raises:
          UserError: If the previous one could not be written; the older ones stay.
        """
        prefix = self._prefix(step)
        # All workers read: a moving statistic is the mean over all of them, so they all have to take part. The values
        # read do not change: updating a variable whose value is held elsewhere makes a copy, in the host's memory.
        values = {name: tf.convert_to_tensor(value) for name, value in values.items()}
        with tf.device("/cpu:0"):
            values = {name: tf.identity(value) for name, value in values.items()}
        if self.is_ours:
            self.wait()
            self._writing = self._writer.submit(self._write, prefix, values)
        return prefix

    def _write(self, prefix, values):
        checkpoints.write(prefix, values)
        steps = self._steps()
        kept = [self._prefix(step).name for step in steps[-self._keep_checkpoints :]]
        # The index that TensorFlow's own tools read. It is written before anything is deleted, so that what it names
        # always exists. Given an absolute folder, bare names stay bare, and valid when the folder is moved or copied.
        tf.compat.v1.train.update_checkpoint_state(os.path.abspath(self.path), kept[-1], kept)
        for old in steps[: -self._keep_checkpoints]:
            # The file that makes it a checkpoint goes last: what a kill leaves here, the next save deletes.
            for path in sorted(self.path.glob(f"{checkpoints.NAME}-{old}.*"), key=lambda path: path.suffix == ".index"):
                path.unlink()

    def evaluation(self):
        """As `read_evaluation`."""
        return read_evaluation(self.path) if self.is_ours else None

    def begin(self):
        """Marks the run as not finished; in a folder without checkpoints, removes what was scored."""
        if not self.is_ours:
            return
        noted = self.evaluation()
        if self.newest() is None:
            for name in (EVALUATION, mistakes.FILE, f"eval_*/{watching.LINES}"):
                for path in self.path.glob(name):
                    path.unlink(missing_ok=True)
        elif noted and noted["finished"]:
            write_json(self.path / EVALUATION, noted | {"finished": False})

    def note(self, step, result, finished, recalibrated=0):
        """Records an evaluation, for a resumed run and for those who watch the folder.

        It waits for the checkpoint, so that a reader who sees that the run has ended finds it.

        Args:
          step: Steps done.
          result: The result of `Evaluator.evaluate`.
          finished: Whether the run ends with it.
          recalibrated: The --recalibrate_batch_norm with which the norms' statistics were measured.
        """
        if not self.is_ours:
            return
        self.wait()
        scores = {name: result[name] for name in ("count", "top_1", "top_5", "cross_entropy")}
        noted = {"step": step, "finished": finished, **scores, "recalibrate_batch_norm": recalibrated}
        write_json(self.path / EVALUATION, noted)

    def _prefix(self, step):
        return checkpoint_prefix(self.path, step)

    def _steps(self):
        return checkpoints.steps_in(self.path) if self.is_ours else []
