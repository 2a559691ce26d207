"""Converts labelled images of any source to TFRecords; `download_and_convert_data.py` is the command line.

A converter (`converters.CONVERTERS`) makes a `plan.Plan`: which images, with which labels, in which order, in how
many shards. `convert` writes the plan's shards with the help of worker processes. When all are there, it writes the
labels.txt and dataset.json that make them a data set. `verification` reads a data set back.
"""
