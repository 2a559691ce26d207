"""The folder of a run: its checkpoints, its description, its lock."""

import concurrent.futures
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import sys

import tensorflow as tf

from command_line import UserError
from nets import checkpoints
from training import mistakes, watching

EVALUATION = "evaluation.json"


def read_evaluation(path):
    """What a run's folder says of its last evaluation, as `RunFolder.note` wrote it; None without one."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return json.loads((pathlib.Path(path) / EVALUATION).read_text(encoding="utf-8"))
    return None


def checkpoint_prefix(path, step):
    """The prefix of the checkpoint of a step in a run's folder."""
    return pathlib.Path(path) / f"{checkpoints.NAME}-{step}"


class RunFolder:
    """A folder that one run at a time writes checkpoints into; a context manager that holds its lock.

    Checkpoints are written by a thread while the run goes on, one at a time. What became of the last one is known after
    `wait`, and at the latest when the context ends.

    Attributes:
      path: The folder.
      is_ours: Whether this process may touch it; for one that may not, there is nothing in it.
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
            # The system drops the lock when the process ends, however it ends: no stale lock is left behind.
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
            # The error that ends the run is told.
            print(f"warning: {failure}", file=sys.stderr)
        finally:
            if self.is_ours:
                self._lock.close()

    def wait(self):
        """Returns when the checkpoint that is being written is there.

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
        """Begins to write a checkpoint of the values as they are now; the oldest past the number to keep go then.

        Args:
          step: Steps done.
          values: A dict of name -> variable.

        Returns:
          Its prefix; it is there after `wait`.

        Raises:
          UserError: If the one before could not be written; the older ones stay.
        """
        prefix = self._prefix(step)
        # Read by all: a moving statistic is the mean over all workers, and they have to be there for it. What was read
        # stays as it is: an update of a variable whose value is held elsewhere takes a copy, in the host's memory.
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
        # The index that TensorFlow's own tools read, written before anything is deleted so that what it names is always
        # there. Bare names stay as they are given an absolute folder, and stay true when the folder is moved or copied.
        tf.compat.v1.train.update_checkpoint_state(os.path.abspath(self.path), kept[-1], kept)
        for old in steps[: -self._keep_checkpoints]:
            # The file that makes it a checkpoint goes last: what a kill leaves here, the next save deletes.
            for path in sorted(self.path.glob(f"{checkpoints.NAME}-{old}.*"), key=lambda path: path.suffix == ".index"):
                path.unlink()

    def evaluation(self):
        """As `read_evaluation`."""
        return read_evaluation(self.path) if self.is_ours else None

    def begin(self):
        """Says that the run is not at its end (any more); of a folder without checkpoints, that nothing was scored."""
        if not self.is_ours:
            return
        noted = self.evaluation()
        if self.newest() is None:
            for name in (EVALUATION, mistakes.FILE, f"eval_*/{watching.LINES}"):
                for path in self.path.glob(name):
                    path.unlink(missing_ok=True)
        elif noted and noted["finished"]:
            checkpoints.write_json(self.path / EVALUATION, noted | {"finished": False})

    def note(self, step, result, finished, recalibrated=0):
        """Writes down an evaluation, for the run that goes on and for whoever watches the folder.

        Its checkpoint is waited for: whoever reads that the run is at its end finds it.

        Args:
          step: Steps done.
          result: What `Evaluator.evaluate` gave.
          finished: Whether the run ends with it.
          recalibrated: The --recalibrate_batch_norm with which the statistics of its norms were measured.
        """
        if not self.is_ours:
            return
        self.wait()
        scores = {name: result[name] for name in ("count", "top_1", "top_5", "cross_entropy")}
        noted = {"step": step, "finished": finished, **scores, "recalibrate_batch_norm": recalibrated}
        checkpoints.write_json(self.path / EVALUATION, noted)

    def _prefix(self, step):
        return checkpoint_prefix(self.path, step)

    def _steps(self):
        return checkpoints.steps_in(self.path) if self.is_ours else []
