"""A network under MirroredStrategy, on two logical devices of one CPU."""

import pathlib
import subprocess
import sys


def test_a_step_on_two_replicas_equals_its_halves():
    program = pathlib.Path(__file__).with_name("mirrored_program.py")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.endswith("equal\n"), done.stdout + done.stderr[-4000:]
