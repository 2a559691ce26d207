"""Training on two devices; the checks are in two_devices.py, which needs a process of its own."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import training_toys
import two_devices

FOLDER = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_devices")
    training_toys.make_dataset(folder / "toy")
    paths = os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])])
    done = subprocess.run(
        [sys.executable, FOLDER / "two_devices.py", folder],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("check", two_devices.CHECKS)
def test_two_devices(results, check):
    assert results[check] is None, results[check]
