"""The timing of all-reduces, in two processes on loopback."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "time_all_reduce.py"


def run(*flags):
    return subprocess.run(
        [sys.executable, SCRIPT, *flags], capture_output=True, text=True, timeout=600, check=False, cwd=ROOT
    )


@pytest.mark.slow
def test_every_volume_is_timed_as_often_as_asked(tmp_path):
    file = tmp_path / "rows.json"
    done = run("--workers=2", "--megabytes", "0.01", "1", "--parts", "1", "3", "--num_batches=4", f"--json={file}")
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["results"]
    assert [(row["workers"], row["megabytes"], row["parts"]) for row in rows] == [
        (2, megabytes, parts) for megabytes in (0.01, 1) for parts in (1, 3)
    ]
    assert all(len(row["seconds"]) == 4 and min(row["seconds"]) > 0 for row in rows)
    assert len(done.stdout.splitlines()) == 4
    assert done.stdout.startswith("2 workers, 0.01 MB in 1 part(s): median ")


def test_nothing_to_time_is_an_error():
    done = run("--megabytes", "0")
    assert done.returncode == 1
    assert done.stderr == "error: --megabytes is (0.0,), expected numbers above 0\n"
