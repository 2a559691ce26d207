"""How far an export is from the checkpoint's own network, on the same pictures."""

import numpy as np
import tensorflow as tf

from command_line import UserError
from data.preprocessing import images
from exporting.network import CLASSES, INPUT, LOGITS, PROBABILITIES, named_outputs
from exporting.pictures import FIRST_BATCHES

# Largest difference allowed, relative to the largest value of an output. Measured on trained networks: a part in a
# million, a thousand, a hundred and about a tenth. Above these tolerances something is broken, not rounded.
TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 0.1, "int8": 0.5}


class Comparison:
    """Differences between expected and actual outputs, over batches.

    Attributes:
      images: Number of pictures so far.
      batch_sizes: Distinct batch sizes so far, in order.
    """

    def __init__(self, tolerance):
        self.images = 0
        self.batch_sizes = []
        self._tolerance = tolerance
        self._largest = {}  # Output -> [largest difference, largest value]
        self._changed = 0
        self._hits = None

    def add(self, expected, actual, labels):
        """Adds a batch of the two networks' outputs, dicts of arrays, and its labels (or None)."""
        self.images += len(next(iter(expected.values())))
        self.check(expected, actual)
        if CLASSES not in expected:
            return
        self._changed += int((expected[CLASSES] != actual[CLASSES]).sum())
        if labels is not None:
            hits = np.array([(outputs[CLASSES] == labels).sum() for outputs in (expected, actual)])
            self._hits = hits if self._hits is None else self._hits + hits

    def check(self, expected, actual):
        """As `add`, but for pictures that were already added, through another signature.

        Raises:
          UserError: If an output is missing or of another shape, or the classes and probabilities are not those of the
            logits.
        """
        shapes = {name: value.shape for name, value in expected.items()}
        if {name: value.shape for name, value in actual.items()} != shapes:
            came = {name: value.shape for name, value in sorted(actual.items())}
            raise UserError(f"the export gives {came}, expected {shapes}")
        for name in expected.keys() - {CLASSES}:
            largest = self._largest.setdefault(name, [0.0, 0.0])
            with np.errstate(invalid="ignore"):
                difference = np.abs(actual[name] - expected[name]).max()
            # Not max(), which may lose a NaN.
            largest[0] = np.maximum(largest[0], difference)
            largest[1] = np.maximum(largest[1], np.abs(expected[name]).max())
        if CLASSES in actual:
            self._check_classes(actual)
        self._note_size(len(next(iter(expected.values()))))

    def result(self):
        """JSON-able figures: images, batch_sizes, tolerance, outputs (name -> largest_difference, and relative to the
        largest value), classes_that_differ and top_1 of both (None where not known)."""
        top_1 = None
        if self._hits is not None:
            top_1 = dict(zip(("checkpoint", "export"), (self._hits / self.images).tolist(), strict=True))
        return {
            "images": self.images,
            "batch_sizes": self.batch_sizes,
            "tolerance": self._tolerance,
            "outputs": {
                name: {
                    "largest_difference": float(difference),
                    "relative": float(difference / value) if value else float(difference),
                }
                for name, (difference, value) in sorted(self._largest.items())
            },
            "classes_that_differ": self._changed if LOGITS in self._largest else None,
            "top_1": top_1,
        }

    def judge(self):
        """Raises a UserError if an output differs by more than the tolerance, or is not finite."""
        for name, figures in self.result()["outputs"].items():
            # Probabilities are judged by their logits: between two close classes, a small change moves them a lot.
            if name != PROBABILITIES and not figures["relative"] <= self._tolerance:
                raise UserError(
                    f"the export differs from the checkpoint: {name} by {figures['relative']:.2g} of its largest "
                    f"value, tolerance {self._tolerance:g}; nothing was written (--tolerance allows more)"
                )

    def _check_classes(self, actual):
        logits, probabilities, classes = (actual[name] for name in (LOGITS, PROBABILITIES, CLASSES))
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
        softmax = exponentials / exponentials.sum(axis=-1, keepdims=True)
        # int8 rounds probabilities to steps of 1 / 256.
        if np.abs(probabilities - softmax).max() > 0.02 or probabilities.dtype != np.float32:
            raise UserError("the export's probabilities are not the softmax of its logits: the format lost it")
        picked = np.take_along_axis(logits, classes[..., None].astype(np.int64), axis=-1)[..., 0]
        if (picked < logits.max(axis=-1)).any():
            raise UserError("the export's classes are not the most probable ones: the format lost them")

    def _note_size(self, size):
        if size not in self.batch_sizes:
            self.batch_sizes.append(size)


def compare(model, network, runtime, signatures, batches, tolerance, on_batch):
    """Runs a network and its export on the same pictures.

    Args:
      model: The SlimModel, float32, that the checkpoint holds.
      network: The ExportedNetwork.
      runtime: A `runtime.Runtime` of what was written.
      signatures: Names of further signatures, compared on the first batches: image_bytes, raw_images.
      batches: An iterable of `pictures.Batch`.
      tolerance: As in TOLERANCES.
      on_batch: Called with the number of pictures of each batch.

    Returns:
      A Comparison.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def expect(inputs):
        return named_outputs(model, *model(inputs), network.end_points)

    comparison = Comparison(tolerance)
    for number, batch in enumerate(batches):
        expected = {name: value.numpy() for name, value in expect(batch.images).items()}
        comparison.add(expected, runtime.run({INPUT: network.in_layout(batch.images)}), batch.labels)
        if number < len(FIRST_BATCHES) and "image_bytes" in signatures:
            comparison.check(expected, runtime.run({"image_bytes": batch.encoded}, "image_bytes"))
        if number == 0 and "raw_images" in signatures:  # One picture: several sizes make no tensor.
            pixels = images.decode(batch.encoded[0], network.channels).numpy()[None]
            comparison.check(expected, runtime.run({"raw_images": network.in_layout(pixels)}, "raw_images"))
        on_batch(len(batch.images))
    return comparison
