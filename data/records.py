"""Reads and writes TFRecords with Slim's keys, exactly.

Training batches are a pure function of (seed, step), regardless of the machine, its threads and where a run was
resumed. An evaluation pass yields every record once. A record needs `image/encoded` (a JPEG, PNG, GIF or BMP
file; the bytes decide, not `image/format`) and `image/class/label`. The records of research/slim can be read
unchanged.

    preprocess = functools.partial(get_preprocessing("digits", is_training=True), output_height=32, output_width=32)
    batches = records.training_batches(dataset, "train", preprocess, batch_size=64, seed=1)
    with records.explain_errors(dataset, "train"):
        for images, labels in batches: ...
"""

import contextlib
import os
from pathlib import Path

import tensorflow as tf

from command_line import UserError
from data import service
from data.mixing import Mixing
from data.parsing import FILENAME_KEY, FORMAT_KEY, HEIGHT_KEY, IMAGE_KEY, LABEL_KEY, WIDTH_KEY, serialize
from data.record_errors import DataError, check_labels_offset, explain_errors, find_fault
from data.sources import HeldImages, RecordFiles, open_source

__all__ = [
    "DataError",
    "evaluation_batches",
    "explain_errors",
    "file_names",
    "find_fault",
    "training_batches",
    "write_examples",
]

_SHUFFLE_BUFFER = 10_000
_CACHED_BYTES = 256 * 2**20
_NO_MIXING = Mixing()


@tf.autograph.experimental.do_not_convert
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
    mixing=_NO_MIXING,
    service_address=None,
    worker=0,
    num_workers=1,
):
    """Endless batches that hold every record once per epoch, in a new order each epoch.

    A batch may hold the end of one epoch and the start of the next. Batch k depends only on the records and
    on seed, batch_size, shuffle_buffer and cached_bytes: a stream from `first_step=k` equals, bit for bit, a
    stream from 0 from its k-th batch on. Resuming skips the earlier records of the current epoch without
    decoding them.

    Args:
      dataset: A catalog.Dataset.
      preprocess: A `preprocessing.Preprocess`, which decodes only the part of a JPEG that it needs; or a function
        of (image, seed=...): uint8 [height, width, 3] and an int64 [2] seed for stateless random ops, to float32
        of one fixed shape.
      seed: An int of at most 63 bits, or an int64 scalar tensor.
      first_step: Number of the first batch.
      labels_offset: Subtracted from each label; 1 drops Slim's background class.
      shuffle_buffer: Encoded records that the shuffle draws from. None for the whole split if it is cached, else
        10,000.
      cached_bytes: A split is kept in memory if its files together are smaller than this. It is kept decoded if
        dataset.json gives the shape of its images and the decoded images are smaller, too.
      num_private_threads: Threads that read and preprocess; None for half of the CPUs that the process may
        use.
      mixing: A `mixing.Mixing`; labels are then float32 [batch_size, classes], each class's part of the image.
      service_address: grpc://HOST:PORT of a tf.data service whose workers do the work; see `data.service`.
        The batches are the same.
      worker: Index of the part of each batch to yield, among `num_workers` parts.
      num_workers: Parts of a batch, each of batch_size / num_workers images. A part holds as many images from the
        front as from the back, image k with image batch_size - 1 - k, which mixing pairs.
    Returns:
      A tf.data.Dataset of (images float32 [batch_size / num_workers, ...], labels int32, one per image).
    Raises:
      UserError: If the split or its files do not exist, labels_offset leaves no class, or the batch cannot be
        divided among the workers.
      DataError: If a cached split is corrupt or its count is wrong. For other splits, `explain_errors` raises it
        in the loop.
    """
    _check_at_least(1, batch_size=batch_size)
    _check_at_least(0, first_step=first_step, shuffle_buffer=shuffle_buffer or 0)
    if service_address and dataset.synthetic:
        raise UserError("synthetic images are drawn in memory, there is nothing to send to a tf.data service")
    source = open_source(dataset, split, preprocess, labels_offset, cached_bytes)
    count = dataset.num_records(split)
    shuffle_buffer = shuffle_buffer or (count if source.in_memory else _SHUFFLE_BUFFER)
    first_position = first_step * batch_size
    if num_workers > 1 and batch_size % (2 * num_workers):
        raise UserError(
            f"batch_size is {batch_size}, expected a multiple of {2 * num_workers}, twice the {num_workers} workers"
        )

    def is_own(position, *fields):
        place = (position - first_position) % batch_size
        return tf.minimum(place, batch_size - 1 - place) // (batch_size // (2 * num_workers)) == worker

    def numbered_of(source):
        numbered = _numbered(source, count, shuffle_buffer, seed, first_position)
        # Images of other workers are dropped before they are decoded.
        return numbered.filter(is_own) if num_workers > 1 else numbered

    own_size = batch_size // num_workers
    if service_address:
        # Images in memory would have to be sent. Reading in file order gives the same records, shuffled alike.
        held = isinstance(source, HeldImages)
        source = RecordFiles(
            dataset, split, preprocess, labels_offset, in_file_order=source.in_memory, decode_whole=held
        )

        def make_stream(index):
            # Drops images of other streams before decoding.
            def is_in_stream(position, *fields):
                return (position - first_position) // batch_size % service.STREAMS == index

            return _batches(source, numbered_of(source).filter(is_in_stream), seed, own_size)

        batches = service.distribute(make_stream, service_address)
    else:
        batches = _batches(source, numbered_of(source), seed, own_size)
    if mixing.is_on:
        batches = _mixed(batches, mixing, dataset.num_classes - labels_offset, seed, first_step)
    return _finish(batches, num_private_threads)


@tf.autograph.experimental.do_not_convert
def evaluation_batches(
    dataset, split, preprocess, batch_size, labels_offset=0, num_private_threads=None, worker=0, num_workers=1
):
    """One pass over a split: every record once, in file order; the last batch holds the remainder.

    Args and errors as `training_batches`, but a function `preprocess` gets only the image, and a worker gets whole
    batches: every `num_workers`-th, from number `worker` on.

    Returns:
      A finite tf.data.Dataset of (images float32 [batch, ...], labels int32 [batch]). It fails if the number of
      records is not that of dataset.json; `explain_errors` says how they differ.
    """
    _check_at_least(1, batch_size=batch_size)
    check_labels_offset(dataset, labels_offset)
    if dataset.synthetic:
        source = open_source(dataset, split, preprocess, labels_offset, cached_bytes=0)
    else:
        source = RecordFiles(dataset, split, preprocess, labels_offset)
    elements = source.take_apart(source.in_order())
    if num_workers > 1:
        # Each worker reads and counts all records, but decodes only its own.
        numbered = elements.enumerate().filter(lambda number, fields: number // batch_size % num_workers == worker)
        elements = numbered.map(lambda number, fields: fields)
    examples = elements.map(source.example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _finish(examples.batch(batch_size), num_private_threads)


def file_names(dataset, split):
    """Yields the image/filename of every record of a split in file order: "" where a record has none.

    Args and errors as `evaluation_batches`.
    """
    if dataset.synthetic:
        yield from [""] * dataset.num_records(split)
        return
    for record in tf.data.TFRecordDataset(dataset.files(split)).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        # Looking up a key that is not there would add it.
        yield os.fsdecode(b"".join(features[FILENAME_KEY].bytes_list.value)) if FILENAME_KEY in features else ""


def _numbered(source, count, shuffle_buffer, seed, first_position):
    """Endless (position, fields of the source's element), from a position on; an epoch is `count` positions."""

    def epoch_elements(epoch):
        # tf.data mixes the process-wide seed into every shuffle. Fixing it makes the order depend on our seed
        # alone.
        tf.compat.v1.set_random_seed(1)
        # Images use the seeds (seed, position) with position >= 0, so epochs use negative positions.
        epoch_seed = tf.stack([tf.convert_to_tensor(seed, tf.int64), -1 - epoch])
        shuffle_seed = tf.random.stateless_uniform([], epoch_seed, minval=None, maxval=None, dtype=tf.int64)
        elements = source.epoch(epoch_seed)
        return elements.shuffle(shuffle_buffer, seed=shuffle_seed, reshuffle_each_iteration=False)

    first_epoch, records_done = divmod(first_position, count)
    stream = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch_elements).skip(records_done)
    return source.take_apart(stream).enumerate(first_position)


def _batches(source, numbered, seed, batch_size):
    def example(position, fields):
        return source.example(*fields, seed=tf.stack([tf.convert_to_tensor(seed, tf.int64), position]))

    examples = numbered.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(batch_size, drop_remainder=True)


def _mixed(batches, mixing, num_classes, seed, first_step):
    def mix(step, batch):
        # No record reaches so high a position, so images and batches share no seed.
        batch_seed = tf.stack([tf.convert_to_tensor(seed, tf.int64), tf.int64.max - step])
        return mixing.mix(*batch, num_classes, batch_seed)

    return batches.enumerate(first_step).map(mix, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def write_examples(path, examples):
    """Writes a TFRecord file with Slim's keys; the file gets its name only once it is complete.

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
                features = {
                    IMAGE_KEY: encoded,
                    FORMAT_KEY: image_format.encode(),
                    LABEL_KEY: label,
                    HEIGHT_KEY: height,
                    WIDTH_KEY: width,
                }
                writer.write(serialize(features))
                count += 1
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        raise
    return count


def _finish(batches, num_private_threads):
    options = tf.data.Options()
    options.deterministic = True
    # With its own threads, the many small ops of preprocessing do not delay the network's large ones.
    threads = num_private_threads or max(1, _usable_cpus() // 2)
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    # AUTOTUNE gets a fixed value instead of a tuner. In TensorFlow 2.21, an iterator that is deleted while its tuner
    # sleeps may miss the call to end; its owner then waits until the tuner wakes, up to a minute.
    options.autotune.enabled = False
    options.autotune.initial_parallelism = threads
    return batches.prefetch(2).with_options(options)


def _check_at_least(least, **settings):
    for name, value in settings.items():
        if value < least:
            raise UserError(f"{name} is {value}, expected at least {least}")


def _usable_cpus():
    # A container may be limited to fewer CPUs than the machine has; only Linux reports this.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
