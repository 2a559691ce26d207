"""Reads and writes TFRecords with Slim's keys, exactly.

Training batches are a pure function of (seed, step), whatever the machine, its threads, and where a run was
resumed; an evaluation pass scores every record once. A record needs `image/encoded` (a JPEG, PNG, GIF or BMP
file; the bytes decide, not `image/format`) and `image/class/label`; research/slim's own records read as they
are.

    preprocess = functools.partial(get_preprocessing("digits", is_training=True), output_height=32,
    output_width=32) batches = records.training_batches(dataset, "train", preprocess, batch_size=64, seed=1)
    with records.explain_errors(dataset, "train"):
        for images, labels in batches: ...
"""

import contextlib
import os
from pathlib import Path

import tensorflow as tf

from command_line import UserError
from data.record_errors import (
    FORMAT_KEY,
    HEIGHT_KEY,
    IMAGE_KEY,
    LABEL_KEY,
    WIDTH_KEY,
    DataError,
    check_labels_offset,
    count_fault,
    explain_errors,
    find_fault,
    parse_record,
)

__all__ = [
    "DataError",
    "evaluation_batches",
    "explain_errors",
    "find_fault",
    "training_batches",
    "write_examples",
]

# Part of what the stream of batches is a function of: a constant, not a fit to the machine.
_SHARDS_INTERLEAVED = 8
_SHUFFLE_BUFFER = 10_000
_CACHED_BYTES = 64 * 2**20


def training_batches(
    dataset,
    split,
    preprocess,
    batch_size,
    seed,
    first_step=0,
    labels_offset=0,
    shuffle_buffer=None,
    cached_bytes=_CACHED_BYTES,
    num_private_threads=None,
):
    """Endless batches that hold every record once an epoch, in a new order each epoch.

    A batch may hold the end of one epoch and the start of the next. Batch k is a function of the records and
    of seed, batch_size, shuffle_buffer and cached_bytes alone: a stream from `first_step=k` equals, bit for
    bit, what a stream from 0 gives from its k-th batch on. Resuming reads past the records of the epoch under
    way without decoding them.

    Args:
      preprocess: A function of (image, seed=...): uint8 [height, width, 3] and an int64 [2] seed for
        stateless random ops, to float32 of one fixed shape.
      seed: An int of at most 63 bits.
      first_step: The first batch to give.
      labels_offset: Taken off each label; 1 drops Slim's background class.
      shuffle_buffer: Encoded records that the shuffle draws from. None for the whole split when it is cached,
        else 10,000.
      cached_bytes: A split whose files are smaller together is kept encoded in memory.
      num_private_threads: Threads that read and preprocess; None for half of the CPUs that the process may
        use.
    Returns:
      A tf.data.Dataset of (images float32 [batch_size, ...], labels int32 [batch_size]).
    Raises:
      UserError: If the split or its files do not exist, or labels_offset leaves no class.
      DataError: If a cached split is corrupt or its count is wrong. Else `explain_errors` raises it in the
        loop.
    """
    _check_at_least(1, batch_size=batch_size)
    _check_at_least(0, first_step=first_step, shuffle_buffer=shuffle_buffer or 0)
    check_labels_offset(dataset, labels_offset)
    files = dataset.files(split)
    count = dataset.num_records(split)
    cached = sum(os.path.getsize(path) for path in files) <= cached_bytes
    if cached:
        held = _read_whole_split(dataset, split, labels_offset)
        shuffle_buffer = shuffle_buffer or count
    else:
        shuffle_buffer = shuffle_buffer or _SHUFFLE_BUFFER

    def epoch_records(epoch):
        # tf.data mixes the process-wide seed into every shuffle; a fixed one here keeps the order a function
        # of ours alone.
        tf.compat.v1.set_random_seed(1)
        # Images take the seeds (seed, position), position >= 0: epochs take those below.
        epoch_seed = tf.stack([tf.constant(seed, tf.int64), -1 - epoch])
        if cached:
            source = tf.data.Dataset.from_tensor_slices(held)
        else:
            source = _interleaved(files, epoch_seed).apply(tf.data.experimental.assert_cardinality(count))
        shuffle_seed = tf.random.stateless_uniform([], epoch_seed, minval=None, maxval=None, dtype=tf.int64)
        return source.shuffle(shuffle_buffer, seed=shuffle_seed, reshuffle_each_iteration=False)

    def example(position, record):
        image, label = _parse(record, dataset, labels_offset)
        return preprocess(image, seed=tf.stack([tf.constant(seed, tf.int64), position])), label

    first_position = first_step * batch_size
    first_epoch, records_done = divmod(first_position, count)
    stream = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch_records).skip(records_done)
    examples = stream.enumerate(first_position).map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _finish(examples.batch(batch_size, drop_remainder=True), num_private_threads)


def evaluation_batches(dataset, split, preprocess, batch_size, labels_offset=0, num_private_threads=None):
    """One pass over a split: every record once, in file order; the last batch holds what remains.

    Args and errors as `training_batches`, but `preprocess` is a function of the image alone.

    Returns:
      A finite tf.data.Dataset of (images float32 [batch, ...], labels int32 [batch]). It fails when the
      records are not as many as dataset.json says; `explain_errors` says how they differ.
    """
    _check_at_least(1, batch_size=batch_size)
    check_labels_offset(dataset, labels_offset)

    def example(record):
        image, label = _parse(record, dataset, labels_offset)
        return preprocess(image), label

    stream = tf.data.TFRecordDataset(dataset.files(split))
    stream = stream.apply(tf.data.experimental.assert_cardinality(dataset.num_records(split)))
    examples = stream.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _finish(examples.batch(batch_size), num_private_threads)


def write_examples(path, examples):
    """Writes a TFRecord file with Slim's keys; the file appears under its name only once it is whole.

    Args:
      examples: Tuples (encoded image bytes, format such as "png", label, height, width).
    Returns:
      The number of records written.
    """
    path = Path(path)
    # A leading dot keeps an unfinished file out of every file_pattern.
    partial = path.with_name(f".{path.name}.partial")
    count = 0
    try:
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for encoded, image_format, label, height, width in examples:
                feature = {
                    IMAGE_KEY: _bytes_feature(encoded),
                    FORMAT_KEY: _bytes_feature(image_format.encode()),
                    LABEL_KEY: _int64_feature(label),
                    HEIGHT_KEY: _int64_feature(height),
                    WIDTH_KEY: _int64_feature(width),
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                # Plain serialisation leaves the order of map keys open, and equal input should give equal
                # files.
                writer.write(example.SerializeToString(deterministic=True))
                count += 1
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        raise
    return count


def _bytes_feature(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int64_feature(value):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def _read_whole_split(dataset, split, labels_offset):
    counts = {}
    held = []
    with explain_errors(dataset, split, labels_offset):
        for path in dataset.files(split):
            # One by one, crossing from TensorFlow to Python would take longer than the reading.
            blocks = list(tf.data.TFRecordDataset(path).batch(1024))
            counts[path] = sum(len(block) for block in blocks)
            held += blocks
    if sum(counts.values()) != dataset.num_records(split):
        raise DataError(count_fault(dataset, split, counts))
    return tf.concat(held, axis=0)


def _interleaved(files, epoch_seed):
    files = tf.random.experimental.stateless_shuffle(tf.constant(files), epoch_seed)
    return tf.data.Dataset.from_tensor_slices(files).interleave(
        tf.data.TFRecordDataset,
        cycle_length=_SHARDS_INTERLEAVED,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _parse(record, dataset, labels_offset):
    """A serialised example as (image uint8 [height, width, 3], label int32 for the network)."""
    image, label = parse_record(record)
    in_range = (label >= labels_offset) & (label < dataset.num_classes)
    # Else a bad label reaches the loss, which turns it into NaN or, on some devices, into nothing at all.
    with tf.control_dependencies([tf.debugging.Assert(in_range, ["label out of range", label])]):
        return image, tf.cast(label - labels_offset, tf.int32)


def _finish(batches, num_private_threads):
    options = tf.data.Options()
    options.deterministic = True
    # Threads of its own keep the many small ops of preprocessing out of the way of the network's large ones.
    options.threading.private_threadpool_size = num_private_threads or max(1, _usable_cpus() // 2)
    options.threading.max_intra_op_parallelism = 1
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def _check_at_least(least, **settings):
    for name, value in settings.items():
        if value < least:
            raise UserError(f"{name} is {value}, expected at least {least}")


def _usable_cpus():
    # A container may be held to fewer CPUs than the machine has; only Linux says so.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
