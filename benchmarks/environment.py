"""Records where and with what a measurement was made, so that it can be compared with another."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from command_line import UserError

_REPOSITORY = Path(__file__).resolve().parents[1]

# These flags decide which kernels oneDNN and TensorFlow pick; the hundred others would hide them.
_CPU_FLAG_PREFIXES = ("avx", "amx", "fma", "f16c", "asimd", "sve", "bf16", "i8mm")

# Variables that change the speed of a step but do not show in the flags of a script.
_SPEED_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "KMP_AFFINITY",
    "LD_PRELOAD",
    "MALLOC_ARENA_MAX",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_ONEDNN_THREADPOOL_USE_CALLER_THREAD",
    "TF_ONEDNN_USE_SYSTEM_ALLOCATOR",
    "TF_SET_ONEDNN_FPMATH_MODE",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)

# Their versions are recorded if they are installed.
_OTHER_ENGINES = ("keras", "onnxruntime", "openvino", "torch")


def describe_environment(cpuinfo_path="/proc/cpuinfo", repository=_REPOSITORY):
    """Describes the machine, the software and this run; call it before the run itself causes load.

    Args:
      cpuinfo_path: Where Linux describes its processors; without that file, the result holds less.
      repository: The checkout whose commit is recorded.

    Returns:
      A JSON-able dict. What cannot be found out is None, or empty for lists.
    """
    import numpy as np
    import tensorflow as tf

    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "commit": _commit(repository),
        "cpu": _cpu(cpuinfo_path),
        "memory_bytes": _memory_bytes(),
        "load_average": _load_average(),
        "kernel": f"{platform.system()} {platform.release()}",
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "tf-slim": _version("tf-slim"),
            "numpy": np.__version__,
            **{package: version for package in _OTHER_ENGINES if (version := _version(package))},
        },
        "threads": thread_settings(),
        "environment_variables": {name: os.environ[name] for name in _SPEED_VARIABLES if name in os.environ},
        "gpus": [
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in tf.config.list_physical_devices("GPU")
        ],
    }


def thread_settings():
    """Returns TensorFlow's thread pool sizes, {"intra_op", "inter_op"}; 0 if TensorFlow itself chooses."""
    import tensorflow as tf

    return {
        "intra_op": tf.config.threading.get_intra_op_parallelism_threads(),
        "inter_op": tf.config.threading.get_inter_op_parallelism_threads(),
    }


def set_threads(intra_op, inter_op):
    """Sets the sizes of TensorFlow's thread pools unless they are 0; call it before TensorFlow computes anything.

    Raises:
      UserError: If TensorFlow has started its threads already.
    """
    import tensorflow as tf

    wanted = {"intra_op": intra_op, "inter_op": inter_op}
    if any(size and size != thread_settings()[name] for name, size in wanted.items()):
        try:
            tf.config.threading.set_intra_op_parallelism_threads(intra_op)
            tf.config.threading.set_inter_op_parallelism_threads(inter_op)
        except RuntimeError as error:
            raise UserError("TensorFlow has started its threads already: set their number in a new process") from error


def usable_cores():
    """Returns the number of logical processors that this process may use; `taskset` can lower it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu(cpuinfo_path):
    processors = _read_cpuinfo(cpuinfo_path)
    first = processors[0] if processors else {}
    flags = first.get("flags", first.get("Features", "")).split()
    cores = {(p["physical id"], p["core id"]) for p in processors if "physical id" in p and "core id" in p}
    return {
        "model": first.get("model name") or platform.processor() or platform.machine() or None,
        "flags": sorted(flag for flag in flags if flag.startswith(_CPU_FLAG_PREFIXES)),
        "physical_cores": len(cores) or None,
        "logical_cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "governor": _governor(),
    }


def _governor():
    """How Linux chooses the clock rate of the first core; None if it does not say."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        return None


def _read_cpuinfo(path):
    """Returns one dict per processor, as Linux describes it; an empty list if there is no such file."""
    try:
        text = Path(path).read_text()
    except OSError:
        return []
    entries = [dict(_split_line(line) for line in entry.splitlines()) for entry in text.strip().split("\n\n")]
    return [entry for entry in entries if "processor" in entry]


def _split_line(line):
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def _memory_bytes():
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _load_average():
    try:
        return list(os.getloadavg())
    except (AttributeError, OSError):
        return None


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(repository):
    """Returns {"hash", "dirty"} of the checkout at `repository`; None without one or without a commit."""
    top = _git(repository, "rev-parse", "--show-toplevel")
    # An installed copy may lie inside a checkout of something else, whose commit would be wrong here.
    if not top or Path(top).resolve() != Path(repository).resolve():
        return None
    commit = _git(repository, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return None
    # As in `git describe --dirty`, untracked files (results, notes) do not count.
    changes = _git(repository, "status", "--porcelain", "--untracked-files=no")
    return {"hash": commit, "dirty": changes != ""}


def _git(repository, *arguments):
    """Returns what a git command printed; None if it failed."""
    # Without locks, so that a measurement never makes another git command fail.
    command = ["git", "--no-optional-locks", "-C", str(repository), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
