"""Set before any test imports TensorFlow: the choices that `command_line.run` makes for the scripts."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
