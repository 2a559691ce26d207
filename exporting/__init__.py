"""Checkpoints as files for other programs: SavedModel, ONNX, OpenVINO, TensorFlow Lite.

`formats.FORMATS` has a module for each format, and `network.ExportedNetwork` is what all of them write. `runtime` runs
an export in a separate process, and `comparison` measures how far it is from the checkpoint's network.
"""
