"""Checkpoints as files for other programs: SavedModel, ONNX, OpenVINO, TensorFlow Lite.

`formats.FORMATS` has a module for each format, `network.ExportedNetwork` is what all of them write, `runtime` runs what
was written in a process of its own, and `comparison` says how far it is from the checkpoint's network.
"""
