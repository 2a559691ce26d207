"""Runs an export in its own runtime, in a process without our code."""

import contextlib
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile

from command_line import UserError

_WORKER = pathlib.Path(__file__).with_name("run_export.py")


class Runtime:
    """Runs an export; a context manager.

        with Runtime("onnx", "model.onnx") as runtime:
            outputs = runtime.run({"images": images})

    Attributes:
      version: Name and version of the runtime.
    """

    def __init__(self, format_name, path):
        self._format_name = format_name
        self._command = [sys.executable, "-P", str(_WORKER), format_name, str(pathlib.Path(path).resolve())]

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        self._errors = open(os.path.join(self._folder.name, "stderr"), "w+b")  # noqa: SIM115 - closed in __exit__
        # In another folder and without PYTHONPATH: the export must run for users who have only the file.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder.name,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        try:
            self.version = self._reply()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        with contextlib.suppress(BrokenPipeError):  # It failed with a batch half sent.
            self._process.stdin.close()
        if error and error[0] is not None:
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()
        self._folder.cleanup()

    def run(self, inputs, signature="serving_default"):
        """Runs the export once.

        Args:
          inputs: A dict of input name -> array.
          signature: The signature to run, for a SavedModel.

        Returns:
          A dict of output name -> array.

        Raises:
          UserError: If the runtime fails; the message ends with its last line on stderr.
        """
        with contextlib.suppress(BrokenPipeError):  # It failed: the reply says why.
            pickle.dump((signature, inputs), self._process.stdin)
            self._process.stdin.flush()
        return self._reply()

    def _reply(self):
        try:
            return pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError) as error:
            self._process.wait()
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise UserError(
                f"the {self._format_name} export cannot be run (exit status {self._process.returncode}): {lines[-1]}"
            ) from error
