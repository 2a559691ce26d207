"""Abilities of the processor that decide how something is computed."""

import functools
import pathlib

# Flags any one of which means that there are units for the precision.
_UNITS = {"bfloat16": {"amx_bf16", "avx512_bf16"}, "float16": {"amx_fp16", "avx512_fp16"}}


@functools.cache
def cpu_flags():
    """The processor's flags as Linux names them ("avx2", "amx_bf16"); an empty set on other systems."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(flag for line in lines if line.startswith("flags") for flag in line.split())


def computes_in(dtype):
    """Whether the processor has units for a dtype, given by name; otherwise it computes in another and rounds."""
    return dtype not in _UNITS or bool(_UNITS[dtype] & cpu_flags())
