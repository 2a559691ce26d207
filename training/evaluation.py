"""Exact evaluation: one pass, every record scored once."""

import csv
import itertools
import math
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from command_line import UserError
from nets import nets_factory
from whole_files import drop, part_of, put_in_place


class Predictions(NamedTuple):
    """A network's predictions for each image of a batch; NumPy arrays over the batch.

    Attributes:
      labels: int [batch].
      top_5: int [batch, min(5, classes)], the most probable classes, best first; at ties the lower class first.
      probability: float [batch], of the best class.
      cross_entropy: float [batch], in nats.
      images: float [batch, height, width, channels], the scored images; a tensor.
    """

    labels: np.ndarray
    top_5: np.ndarray
    probability: np.ndarray
    cross_entropy: np.ndarray
    images: tf.Tensor


class Tally(NamedTuple):
    """Counts over images; the tallies of the parts of a split add up to that of the whole.

    Attributes:
      confusion: int64 [classes, classes], rows: label, columns: predicted.
      hits_5: Images whose label is among the 5 most probable classes.
      cross_entropy: Sum over the images, in nats.
      not_finite: Images for which the network's output is not finite.
    """

    confusion: np.ndarray
    hits_5: int
    cross_entropy: float
    not_finite: int

    def scores(self, class_names):
        """Returns and raises what `Evaluator.evaluate` does."""
        count = int(self.confusion.sum())
        if not count:
            raise UserError("no images to evaluate: the split is empty")
        if not math.isfinite(self.cross_entropy):
            raise UserError(
                f"the network's answers to {self.not_finite} of {count} images are not finite: the weights are spoilt, "
                "or too large for --precision=float16"
            )
        return {
            "count": count,
            "top_1": int(np.trace(self.confusion)) / count,
            "top_5": int(self.hits_5) / count,
            "cross_entropy": float(self.cross_entropy) / count,
            "per_class": [_class_row(index, name, self.confusion[index]) for index, name in enumerate(class_names)],
            "confusion_matrix": self.confusion.tolist(),
        }


class Evaluator:
    """Scores a model; over repeated calls, it traces the network only once on each device."""

    def __init__(self, model, devices=(), precision=None):
        """Makes it for a network.

        Args:
          model: A SlimModel.
          devices: Names of the devices that take turns with the batches, each with a copy of the network that gets its
            weights before each pass; none where the model is to be scored itself.
          precision: Of the copies; None for the model's.
        """
        self._model = model
        precision = precision or model.compute_dtype.name if devices else None
        self._networks = [(device, _copy(model, device, precision)) for device in devices] or [(None, model)]
        self._scorers = [_scorer(network, device) for device, network in self._networks]

    def predictions(self, batches):
        """Yields the Predictions of each batch of (images, labels), in their order."""
        self._give_weights()
        batches = iter(batches)
        while turn := list(itertools.islice(batches, len(self._scorers))):
            # Starts all devices before waiting for one of them.
            scored = [scorer(*batch) for scorer, batch in zip(self._scorers, turn, strict=False)]
            for values, (images, _) in zip(scored, turn, strict=True):
                yield Predictions(*(value.numpy() for value in values), images)

    def evaluate(self, batches, class_names, on_batch=None):
        """Scores batches of (images, labels).

        Args:
          batches: A finite dataset, such as `data.records.evaluation_batches` makes.
          class_names: A name for each class of the network.
          on_batch: Called with the Predictions of each batch.

        Returns:
          A dict: count, top_1 and top_5 (shares of count), cross_entropy (mean, nats), per_class (a list of class_id,
          name, count, top_1; top_1 is None without images), confusion_matrix (rows: label, columns: predicted).

        Raises:
          UserError: If there are no images, or the network's answers are not finite.
        """
        return self.tally(batches, len(class_names), on_batch).scores(class_names)

    def tally(self, batches, classes, on_batch=None):
        """As `evaluate`, but only counts; returns a Tally."""
        confusion = np.zeros([classes, classes], np.int64)
        hits_5, cross_entropy = 0, []
        for batch in self.predictions(batches):
            np.add.at(confusion, (batch.labels, batch.top_5[:, 0]), 1)
            hits_5 += int((batch.top_5 == batch.labels[:, None]).any(axis=1).sum())
            cross_entropy.extend(batch.cross_entropy.tolist())
            if on_batch is not None:
                on_batch(batch)
        # fsum, because the mean must not depend on how the records were batched.
        return Tally(confusion, hits_5, math.fsum(cross_entropy), int(np.count_nonzero(~np.isfinite(cross_entropy))))

    def _give_weights(self):
        """Gives the model's values to the copies; a moving statistic is the mean over all devices, read only once."""
        copies = [network for _, network in self._networks if network is not self._model]
        for name, variable in self._model.variables_by_name.items() if copies else ():
            value = tf.convert_to_tensor(variable)
            for copy in copies:
                copy.variables_by_name[name].assign(value)


def _copy(model, device, precision):
    with tf.device(device):
        return nets_factory.create_model(**model.settings, compute_dtype=precision, seed=None)


def _scorer(model, device):
    """A function from images and labels to the first fields of their Predictions, on a device."""

    def score(images, labels):
        with tf.device(device):
            logits, _ = model(images, training=False)
            top = tf.math.top_k(logits, k=min(5, logits.shape[-1]))
            probability = tf.reduce_max(tf.nn.softmax(logits), axis=-1)
            return labels, top.indices, probability, tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

    return tf.function(score, autograph=False, reduce_retracing=True)


def _class_row(index, name, row):
    count = int(row.sum())
    return {"class_id": index, "name": name, "count": count, "top_1": int(row[index]) / count if count else None}


class PredictionsFile:
    """A CSV file with a row for each record: record, label, predicted, probability, top_5, filename.

    A context manager; the file gets its name when the body ends without an error. `record` counts from 0 in file order;
    top_5 lists class ids, best first, separated by spaces; filename is empty where the record has none.
    """

    def __init__(self, path, filenames):
        """Takes the path, and an iterator of the records' file names, such as `data.records.file_names`."""
        self._path = pathlib.Path(path)
        self._filenames = filenames
        self._part = part_of(path)
        self._record = 0

    def __enter__(self):
        # No file is made yet: a Ctrl-C before the body is entered would leave it behind.
        self._file = None
        return self

    def _open(self):
        self._part.parent.mkdir(parents=True, exist_ok=True)
        # File names need not be valid in any encoding.
        self._file = open(  # noqa: SIM115 - closed in __exit__
            self._part, "w", newline="", encoding="utf-8", errors="surrogateescape"
        )
        self._writer = csv.writer(self._file)
        self._writer.writerow(["record", "label", "predicted", "probability", "top_5", "filename"])

    def add(self, batch):
        """Writes the rows of one Predictions."""
        if self._file is None:
            self._open()
        for label, top_5, probability in zip(batch.labels, batch.top_5, batch.probability, strict=True):
            # Nine digits restore a float32 exactly.
            ids = " ".join(map(str, top_5))
            self._writer.writerow([self._record, label, top_5[0], f"{probability:.9g}", ids, next(self._filenames)])
            self._record += 1

    def __exit__(self, kind, error, trace):
        try:
            if kind is None and self._file is None:
                self._open()
            if self._file is not None:
                self._file.close()
            if kind is None:
                put_in_place(self._part, self._path)
        finally:
            drop(self._part, self._path)


def describe(result):
    """A result of `Evaluator.evaluate` as lines for a person to read."""
    return (
        f"{result['count']} images scored once each\n"
        f"top-1 {result['top_1']:.4f}   top-5 {result['top_5']:.4f}   cross-entropy {result['cross_entropy']:.4f}"
    )
