"""The one place that looks at the machine: precision and distribution strategy are chosen from its devices."""

import tensorflow as tf

from command_line import UserError
from nets.processor import cpu_flags

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def resolve_precision(precision):
    """Turns `auto` into the precision that pays on this machine.

    Args:
      precision: One of PRECISIONS.

    Returns:
      "float16" on a GPU; "bfloat16" on a CPU with AMX or AVX512-BF16 (others emulate it slowly); else "float32". A
      precision other than auto is returned as it is.

    Raises:
      UserError: If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision is {precision!r}, expected one of: {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if tf.config.list_physical_devices("GPU"):
        return "float16"
    return "bfloat16" if {"amx_bf16", "avx512_bf16"} & cpu_flags() else "float32"


def make_strategy():
    """Returns the tf.distribute strategy for this machine: mirrored over several GPUs, else one device."""
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
