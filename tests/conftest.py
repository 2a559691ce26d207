"""What every test relies on, set before any of them imports TensorFlow or starts a process."""

import contextlib
import os
import signal

# The choices that `command_line.run` makes for the scripts.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
with contextlib.suppress(ImportError):
    # PyTorch's builds for CUDA bring Triton, which crashes where TensorFlow was imported before it.
    import triton  # noqa: F401

# A shell starts what runs in its background with Ctrl-C ignored, and so do we our children then.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
