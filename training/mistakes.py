"""The worst mistakes of an evaluation with their pictures, and the file that holds a run's last evaluation."""

import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from whole_files import written_whole

FILE = "evaluation.npz"
_MOST = 24
_LARGEST = 160  # Pixels of the longer side of a picture: enough to see what it is.
_FIELDS = ("record", "label", "predicted", "probability", "cross_entropy")


class Mistake(NamedTuple):
    """A record that was taken for another class.

    Attributes:
      record: Counted from 0 in file order.
      label: Its class.
      predicted: The most probable class.
      probability: Probability of the predicted class.
      cross_entropy: In nats: how improbable the network found the label.
      picture: uint8 [height, width, 3], the network's input, each image stretched to the full range and no larger than
        160 pixels.
    """

    record: int
    label: int
    predicted: int
    probability: float
    cross_entropy: float
    picture: np.ndarray


class Mistakes:
    """Keeps the mistakes with the highest cross-entropy; at ties, the earlier records."""

    def __init__(self, most=_MOST, workers=None, first_record=0, turns=1):
        """Makes it for one evaluation.

        Args:
          most: How many to keep.
          workers: The workers.Workers that share the batches, each with a Mistakes; None for one process.
          first_record: Number of this worker's first record.
          turns: How many workers take turns with the batches; 1 if this worker's batches are consecutive.
        """
        self._most = most
        self._workers = workers if workers and workers.count > 1 else None
        self._worst = []
        self._next_record = first_record
        self._turns = turns

    def add(self, batch):
        """Looks through an evaluation.Predictions."""
        wrong = np.flatnonzero(batch.top_5[:, 0] != batch.labels)
        order = wrong[np.argsort(-batch.cross_entropy[wrong], kind="stable")][: self._most]
        least = self._worst[-1].cross_entropy if len(self._worst) == self._most else -np.inf
        for index in order:
            if batch.cross_entropy[index] <= least:
                break
            record = self._next_record + int(index)
            numbers = batch.labels[index], batch.top_5[index, 0], batch.probability[index], batch.cross_entropy[index]
            self._worst.append(Mistake(record, *(number.item() for number in numbers), _picture(batch.images[index])))
        # A stable sort, so that earlier records stay before later ones.
        self._worst = sorted(self._worst, key=lambda mistake: -mistake.cross_entropy)[: self._most]
        self._next_record += len(batch.labels) * self._turns

    def worst(self):
        """A list of Mistake, the worst first; with several workers, those of all, and every worker has to call it."""
        return self._worst_of_all() if self._workers else list(self._worst)

    def _worst_of_all(self):
        """Sums the numbers, with each worker's in its own place, then the pictures of the mistakes they select."""
        own, count = self._workers.index, self._workers.count
        numbers = np.zeros([count, self._most, 1 + len(_FIELDS)])
        sizes = np.zeros([count, 3], np.int32)
        for place, mistake in enumerate(self._worst):
            numbers[own, place] = 1, *mistake[: len(_FIELDS)]
            sizes[own] = mistake.picture.shape
        numbers, sizes = self._workers.sum([numbers, sizes])
        rows = [(numbers[place][1:], *place) for place in zip(*np.nonzero(numbers[:, :, 0]), strict=True)]
        rows = sorted(rows, key=lambda row: (-row[0][-1], row[0][0]))[: self._most]
        if not rows:
            return []
        pictures = np.zeros([len(rows), *sizes.max(axis=0)], np.int32)
        for picture, (_, worker, place) in zip(pictures, rows, strict=True):
            if worker == own:
                picture[:] = self._worst[place].picture
        (pictures,) = self._workers.sum([pictures])
        return [
            Mistake(*map(int, fields[:3]), *fields[3:].tolist(), picture)
            for (fields, _, _), picture in zip(rows, np.uint8(pictures), strict=True)
        ]


def write(folder, step, split, confusion_matrix, mistakes):
    """Writes FILE into a run's folder, whole or not at all.

    Args:
      folder: The run's folder.
      step: Steps done.
      split: What was scored.
      confusion_matrix: Counts, rows: label, columns: predicted.
      mistakes: A list of Mistake, whose pictures have one size.
    """
    path = pathlib.Path(folder) / FILE
    columns = {name: np.array([getattr(mistake, name) for mistake in mistakes]) for name in _FIELDS}
    pictures = np.array([mistake.picture for mistake in mistakes], np.uint8)
    columns |= {"picture": pictures, "confusion_matrix": np.int32(confusion_matrix)}
    with written_whole(path) as part, open(part, "wb") as file:
        np.savez_compressed(file, step=step, split=split, **columns)


def read(folder):
    """What `write` wrote: a dict of step, split, confusion_matrix and mistakes; None without the file."""
    path = pathlib.Path(folder) / FILE
    if not path.exists():
        return None
    with np.load(path) as file:
        columns = [file[name].tolist() for name in _FIELDS]
        mistakes = [Mistake(*row) for row in zip(*columns, file["picture"], strict=True)]
        return {
            "step": int(file["step"]),
            "split": str(file["split"]),
            "confusion_matrix": file["confusion_matrix"],
            "mistakes": mistakes,
        }


def _picture(image):
    """Turns an image as fed to the network, [height, width, 1 or 3], into one to look at."""
    image = np.asarray(image, np.float64)
    low, high = image.min(), image.max()
    stretched = np.uint8(np.round((image - low) / ((high - low) or 1.0) * 255))
    picture = Image.fromarray(np.ascontiguousarray(np.broadcast_to(stretched, (*image.shape[:2], 3))))
    picture.thumbnail((_LARGEST, _LARGEST))
    return np.asarray(picture)
