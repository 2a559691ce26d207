"""Measures and checks batch norm's moving statistics, which evaluation depends on and training never reads.

They lag behind the weights: after few steps, or with a decay too close to 1, a network that trains well scores badly.

Source: Wu and Johnson, Rethinking "Batch" in BatchNorm, arXiv:2105.07576, section 3.
"""

import collections

import numpy as np
import tensorflow as tf

from nets import nets_factory

APART = 0.1  # How far top-1 in evaluation may fall short of that in training, on the same images, without a warning.
ENOUGH_IMAGES = 64


def estimate(model, batches, num_images, training=True, parts=1):
    """Measures the statistics again: the mean of the batches' statistics, with the same weight for every image.

    The result does not depend on the order of the batches. The model is not changed.

    Args:
      model: A SlimModel.
      batches: Yields images, [batch, height, width, channels]; no more are taken than needed.
      num_images: Images to take, rounded up to whole batches.
      training: The norms' `training` argument; norms that do not use the batch keep their statistics.
      parts: Equal parts in which a batch passes the network, one by one, as with --gradient_accumulation_steps.

    Returns:
      A dict of name -> float32 array for the moving means and variances, and the number of images taken.
    """
    # With a decay of 0, each moving statistic is that of the last batch.
    settings = model.settings | {"batch_norm_decay": 0.0}
    twin = nets_factory.create_model(**settings, compute_dtype=model.compute_dtype.name, seed=None)
    for name, variable in model.variables_by_name.items():
        twin.variables_by_name[name].assign(tf.convert_to_tensor(variable))
    statistics = {name: variable for name, variable in twin.variables_by_name.items() if not variable.trainable}
    sums, count = dict.fromkeys(statistics, 0.0), 0
    for images in batches:
        for part in tf.split(images, parts):
            twin(part, training=training)
            for name, variable in statistics.items():
                # In float64, so that the effect of the order of the sum vanishes in the rounding to float32.
                sums[name] = sums[name] + np.float64(variable.numpy()) * len(part)
        count += len(images)
        if count >= num_images:
            break
    return {name: np.float32(total / count) for name, total in sums.items()}, count


class ModeCheck:
    """Compares top-1 of the last training steps with that of the finished network on the same images."""

    def __init__(self, workers, batch_size, parts=1):
        """Args: workers: the workers.Workers of the run; batch_size: images of a step; parts: as in `estimate`."""
        self._workers = workers
        self._batch_size = batch_size
        self._parts = parts
        self._steps = collections.deque(maxlen=max(1, 2 * ENOUGH_IMAGES // batch_size))

    def add(self, images, labels, metrics):
        """Keeps the batch and the metrics of a step; only those of the last steps are held."""
        self._steps.append((images, labels, metrics["top_1"]))

    def warning(self, evaluator):
        """The text of a warning; None if evaluation is about as good, or too few images were kept.

        Args:
          evaluator: The evaluation.Evaluator of the network.
        """
        if len(self._steps) * self._batch_size < ENOUGH_IMAGES:
            return None
        in_training = float(np.mean([float(top_1) for _, _, top_1 in self._steps]))
        hits = [batch.labels == batch.top_5[:, 0] for batch in evaluator.predictions(self._local_batches())]
        hits = np.concatenate(hits)
        hit_count, count = self._workers.sum([np.int64(hits.sum()), np.int64(len(hits))])
        in_evaluation = float(hit_count / count)
        if in_training - in_evaluation <= APART:
            return None
        return (
            f"warning: on the last {count} training images top-1 is {in_training:.4f} with the "
            f"statistics of the batch, but {in_evaluation:.4f} with the moving averages that evaluation takes: they "
            "trail behind; the same command with --recalibrate_batch_norm=1000 (and no --stop_at_top_1) measures batch "
            "norm's anew, as does eval_image_classifier.py with that flag (for runs with --sync_batch_norm, too); a "
            "lower --batch_norm_decay or more steps let them keep up"
        )

    def _local_batches(self):
        for images, labels, _ in self._steps:
            locals_ = map(self._workers.strategy.experimental_local_results, (images, labels))
            for local_images, local_labels in zip(*locals_, strict=True):
                # A mixed image has the class of its greater part, as in the step.
                mixed = local_labels.shape.rank == 2
                local_labels = tf.argmax(local_labels, -1, tf.int32) if mixed else local_labels
                yield from zip(tf.split(local_images, self._parts), tf.split(local_labels, self._parts), strict=True)
