"""What the processor can do, where that decides how something is computed."""

import functools
import pathlib


@functools.cache
def cpu_flags():
    """The processor's flags as Linux names them ("avx2", "amx_bf16"); an empty set on other systems."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(flag for line in lines if line.startswith("flags") for flag in line.split())
