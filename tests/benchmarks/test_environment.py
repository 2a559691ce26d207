"""The record of machine, software and commit."""

import datetime
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import environment
from command_line import UserError

# Two cores of two threads, as Linux shows them; flags shortened.
CPUINFO = "".join(
    f"""processor	: {processor}
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
physical id	: 0
core id		: {processor // 2}
flags		: fpu vme sse4_2 avx2 avx512f avx512_bf16 amx_tile amx_bf16 fma rdrand
power management:

"""
    for processor in range(4)
)


@pytest.fixture
def repository(tmp_path):
    """A checkout of one commit that holds one file."""
    if shutil.which("git") is None:
        pytest.skip("needs git, whose commits it reads")
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "file.txt").write_text("one\n")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "-m", "one"]):
        subprocess.run(["git", "-C", folder, *arguments], check=True)
    return folder


def head(repository):
    command = ["git", "-C", repository, "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_record_survives_json_and_names_the_software():
    described = environment.describe_environment()
    assert json.loads(json.dumps(described)) == described
    assert described["versions"]["tensorflow"] == tf.__version__
    assert described["versions"]["numpy"] == np.__version__
    assert described["versions"]["tf-slim"]
    assert described["threads"].keys() == {"intra_op", "inter_op"}
    assert described["cpu"]["model"]
    assert described["gpus"] == [] or all(isinstance(name, str) for name in described["gpus"])
    assert described["command"]


def test_the_start_is_now_in_utc():
    started = datetime.datetime.fromisoformat(environment.describe_environment()["started"])
    assert started.utcoffset() == datetime.timedelta(0)
    assert abs(datetime.datetime.now(datetime.UTC) - started) < datetime.timedelta(minutes=1)


def test_cores_and_the_flags_that_matter(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    cpu = environment.describe_environment(cpuinfo_path=path)["cpu"]
    assert cpu["model"] == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert cpu["physical_cores"] == 2
    assert cpu["flags"] == ["amx_bf16", "amx_tile", "avx2", "avx512_bf16", "avx512f", "fma"]


@pytest.mark.parametrize("content", [None, "", "processor\t: 0\nBogoMIPS\t: 50.00\n\nno colon here\n"])
def test_a_system_that_tells_less_gives_less(tmp_path, content):
    path = tmp_path / "cpuinfo"
    if content is not None:
        path.write_text(content)
    cpu = environment.describe_environment(cpuinfo_path=path)["cpu"]
    assert cpu["flags"] == []
    assert cpu["physical_cores"] is None
    assert cpu["logical_cores"] == os.cpu_count()


def test_a_system_without_load_or_memory_figures(monkeypatch):
    monkeypatch.delattr(os, "getloadavg", raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    described = environment.describe_environment()
    assert described["load_average"] is None
    assert described["memory_bytes"] is None
    assert described["cpu"]["usable_cores"] == os.cpu_count()


def test_variables_that_change_the_speed_are_kept_and_no_others(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("A_PASSWORD", "hunter2")
    variables = environment.describe_environment()["environment_variables"]
    assert variables["OMP_NUM_THREADS"] == "3"
    assert "A_PASSWORD" not in variables


def test_threads_are_set_before_tensorflow_starts_them_or_not_at_all():
    tf.constant(1.0) + 1.0
    before = environment.thread_settings()
    environment.set_threads(0, 0)
    environment.set_threads(before["intra_op"], before["inter_op"])
    with pytest.raises(UserError, match="in a new process"):
        environment.set_threads(before["intra_op"] + 3, 0)
    assert environment.thread_settings() == before


def test_commit_of_a_clean_and_of_a_changed_checkout(repository):
    assert commit(repository) == {"hash": head(repository), "dirty": False}
    (repository / "results.json").write_text("{}")
    assert commit(repository)["dirty"] is False
    (repository / "file.txt").write_text("two\n")
    assert commit(repository) == {"hash": head(repository), "dirty": True}


def test_no_commit_outside_a_checkout_of_our_own(repository, tmp_path):
    assert commit(tmp_path) is None
    inside = repository / "site-packages"
    inside.mkdir()
    assert commit(inside) is None


def test_no_commit_before_the_first_one_and_without_git(tmp_path, repository, monkeypatch):
    empty = tmp_path / "empty"
    subprocess.run(["git", "init", "--quiet", empty], check=True)
    assert commit(empty) is None
    monkeypatch.setenv("PATH", "")
    assert commit(repository) is None


def commit(repository):
    return environment.describe_environment(repository=repository)["commit"]
