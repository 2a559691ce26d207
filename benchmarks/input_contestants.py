"""Input pipelines from JPEGs to batches of float32 crops: this zoo's and others'.

Each contestant is a context manager of (dataset, paths, crop, batch_size, num_threads) that yields a `start` for
`rounds.run_rounds`. `dataset` holds the images as records of a split "train", `paths` as files, `crop` is a
`crops.Crop`, and `num_threads` counts threads or processes.

TensorFlow and PyTorch are imported in the functions, because worker processes import this module.
"""

import collections
import concurrent.futures
import contextlib
import importlib
import itertools
import multiprocessing
import os
from pathlib import Path

import numpy as np
from PIL import Image

from command_line import UserError

_IMAGES_A_TASK = 16


@contextlib.contextmanager
def held_to_cores(count):
    """Restricts this process and those that it starts to `count` of its cores, if the system can do that.

    Threads that already run stay where they are. All contestants then have the same cores, even if one starts more
    threads than it was told to.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def zoo(dataset, paths, crop, batch_size, num_threads):
    """This zoo's own pipeline, `data.records`, with the preprocessing of the crop's family."""
    from data import preprocessing, records

    family = preprocessing.find_family(crop.family)
    preprocess = preprocessing.Preprocess(family, crop.side, crop.side, crop.is_training)

    def start():
        if not crop.is_training:
            batches = records.evaluation_batches(
                dataset, "train", preprocess, batch_size, num_private_threads=num_threads
            ).repeat()
        else:
            batches = records.training_batches(
                dataset,
                "train",
                preprocess,
                batch_size,
                seed=0,
                # Like a data set that is too large for memory: files are read, and the shuffle draws from a small part
                # of them.
                cached_bytes=0,
                shuffle_buffer=max(1, len(paths) // 8),
                num_private_threads=num_threads,
            )
        return taking(batches)

    yield start


@contextlib.contextmanager
def tf_data(dataset, paths, crop, batch_size, num_threads):
    """tf.data as in its guides: records, shuffle, map (parse, decode, crop), batch, prefetch.

    It resizes with tf.image's default, which does not average over pixels as Pillow and this zoo's torchvision do.
    """
    import tensorflow as tf

    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }

    def example(record):
        parsed = tf.io.parse_single_example(record, features)
        image = tf.io.decode_jpeg(parsed["image/encoded"], channels=3)
        return (plain_crop(image, crop) - 127.5) / 64.0, parsed["image/class/label"]

    def start():
        records = tf.data.TFRecordDataset(dataset.files("train")).repeat()
        if crop.is_training:
            records = records.shuffle(max(1, len(paths) // 8))
        batches = records.map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size).prefetch(tf.data.AUTOTUNE)
        options = tf.data.Options()
        options.threading.private_threadpool_size = num_threads
        return taking(batches.with_options(options))

    yield start


@contextlib.contextmanager
def simplejpeg(dataset, paths, crop, batch_size, num_threads):
    """simplejpeg decodes, Pillow crops and resizes, with one thread per process; encoded images are in memory."""
    _import_or_say("simplejpeg")
    context = multiprocessing.get_context("spawn")
    arguments = ([str(path) for path in paths], crop)
    with concurrent.futures.ProcessPoolExecutor(num_threads, context, _load_images, arguments) as pool:
        ahead = collections.deque()
        tasks = itertools.count()

        def take_batch():
            while len(ahead) < 2 * num_threads:
                ahead.append(pool.submit(_decode_images, next(tasks) * _IMAGES_A_TASK))
            return ahead.popleft().result()

        take_batch()  # Otherwise the processes would start during another contestant's turn.
        yield lambda: take_batch


def _load_images(paths, crop):
    global _encoded, _crop
    _encoded, _crop = [Path(path).read_bytes() for path in paths], crop


def _decode_images(first):
    import simplejpeg

    random = np.random.default_rng(first)
    for number in range(first, first + _IMAGES_A_TASK):
        pixels = simplejpeg.decode_jpeg(_encoded[number % len(_encoded)])
        _crop.apply(Image.fromarray(pixels), random)
    return _IMAGES_A_TASK


@contextlib.contextmanager
def torch(dataset, paths, crop, batch_size, num_threads):
    """PyTorch's DataLoader over image files that Pillow opens, as is usual with torchvision."""
    loading = _import_or_say("torch").utils.data
    files = ImageFiles([str(path) for path in paths], crop)
    # With replacement, so that the queues do not run empty at the end of an epoch.
    sampler = loading.RandomSampler(files, replacement=True, num_samples=2**40)
    loader = loading.DataLoader(
        files,
        batch_size,
        sampler=sampler,
        num_workers=num_threads,
        # Forking a process that runs TensorFlow's threads can hang the child.
        multiprocessing_context="spawn",
    )
    batches = iter(loader)
    next(batches)  # Otherwise the processes would start during another contestant's turn.
    yield lambda: lambda: len(next(batches)[1])


PEERS = {"simplejpeg": simplejpeg, "torch": torch, "tf_data": tf_data}


class ImageFiles:
    """A data set in PyTorch's form: (float32 tensor [3, side, side], label)."""

    def __init__(self, paths, crop):
        self._paths, self._crop = paths, crop

    def __len__(self):
        return len(self._paths)

    def __getitem__(self, index):
        import torch

        random = np.random.default_rng(torch.randint(2**62, ()).item())
        with Image.open(self._paths[index]) as picture:
            pixels = self._crop.apply(picture.convert("RGB"), random)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), index % 2


def taking(batches):
    """What a `start` returns, for a tf.data.Dataset of (images, labels)."""
    iterator = iter(batches)
    return lambda: len(next(iterator)[1])


def _import_or_say(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{name} is not installed: pip install {name}, or leave it out of --peers") from None


def plain_crop(image, crop):
    """Does what `crop` does to a uint8 [height, width, 3] image, but only with tf.image; float32 [side, side, 3]."""
    import tensorflow as tf

    side = [crop.side, crop.side]
    if not crop.is_training:
        if crop.family == "inception":
            return tf.image.resize(tf.image.central_crop(image, 0.875), side)
        return tf.image.resize_with_crop_or_pad(_resize_short_side(image, crop.side / 0.875), *side)
    if crop.family == "vgg":
        short = tf.random.uniform([], 256, 513) * (crop.side / 224)
        image = tf.image.random_crop(_resize_short_side(image, short), [*side, 3])
    else:
        corner, size, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(image),
            tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            area_range=(0.08 if crop.family == "torchvision" else 0.1, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
        )
        image = tf.image.resize(tf.slice(image, corner, size), side)
    return tf.image.random_flip_left_right(image)


def _resize_short_side(image, side):
    import tensorflow as tf

    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    return tf.image.resize(image, tf.cast(tf.math.ceil(shape * (side / tf.reduce_min(shape))), tf.int32))
