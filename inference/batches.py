"""Images as batches of a network's input, read ahead by threads; unreadable images are listed by name."""

import concurrent.futures
import itertools
import os
from typing import NamedTuple

import numpy as np

from data.conversion.plan import BadFileError
from inference.image_files import read_pixels


class Batch(NamedTuple):
    """Some images of a sequence.

    Attributes:
      items: The ImageItems that could be read, without their bytes.
      images: float32 [len(items), height, width, channels], preprocessed.
      failures: Tuples (name, reason) of those that could not be read.
    """

    items: list
    images: np.ndarray
    failures: list


def read_batches(items, trained, batch_size):
    """Reads items in batches, each while the batch before it is being processed.

    Args:
      items: An iterable of ImageItem.
      trained: A `network.TrainedNetwork`.
      batch_size: Items of a batch, including those that cannot be read; the last batch holds the rest.

    Yields:
      A Batch, in order.
    """

    def read(item):
        try:
            pixels = read_pixels(item, trained.channels)
            return item._replace(data=None), trained.preprocess(pixels).numpy(), None
        except BadFileError as error:
            return item.name, None, str(error)

    items = iter(items)
    # At most two batches are in flight: one being processed, one being read.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        ahead = [threads.submit(read, item) for item in itertools.islice(items, batch_size)]
        while ahead:
            reading, ahead = ahead, []
            results = [future.result() for future in reading]
            ahead = [threads.submit(read, item) for item in itertools.islice(items, batch_size)]
            yield _batch(results)


def _batch(results):
    good = [(item, image) for item, image, reason in results if reason is None]
    failures = [(name, reason) for name, _, reason in results if reason is not None]
    images = np.stack([image for _, image in good]) if good else np.zeros([0], np.float32)
    return Batch([item for item, _ in good], images, failures)
