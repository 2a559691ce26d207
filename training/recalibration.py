"""Care for batch norm's moving statistics, which decide how a network scores and which training never reads.

They trail behind the weights: after few steps, or with a decay too near 1, a network that trains well scores badly.

Source: Wu and Johnson, Rethinking "Batch" in BatchNorm, arXiv:2105.07576, section 3.
"""

import collections

import numpy as np
import tensorflow as tf

from nets import nets_factory

APART = 0.1  # Of top-1, between the two modes on the same images: from here on a user should know.
ENOUGH_IMAGES = 64


def estimate(model, batches, num_images, training=True, parts=1):
    """Measures the statistics anew: the mean over batches of what each batch has, every image with the same weight.

    The result does not depend on the order of the batches. The model is left as it is.

    Args:
      model: A SlimModel.
      batches: Yields images, [batch, height, width, channels]; no more are taken than are needed.
      num_images: Images to take, rounded up to whole batches.
      training: What the norms are told; those that do not use the batch keep their statistics.
      parts: As many equal parts of each batch pass the network one after the other, as --gradient_accumulation_steps
        has it in training.

    Returns:
      A dict of name -> float32 array for the moving means and variances, and the number of images taken.
    """
    # A decay of 0 makes each moving statistic that of the last batch.
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
                # In float64, so that the order of the sum is lost in the rounding to float32.
                sums[name] = sums[name] + np.float64(variable.numpy()) * len(part)
        count += len(images)
        if count >= num_images:
            break
    return {name: np.float32(total / count) for name, total in sums.items()}, count


class ModeCheck:
    """Compares what the last training steps measured with what the finished network says of the same images."""

    def __init__(self, workers, batch_size, parts=1):
        """Args: workers: the workers.Workers of the run; batch_size: images of a step; parts: as in `estimate`."""
        self._workers = workers
        self._batch_size = batch_size
        self._parts = parts
        self._steps = collections.deque(maxlen=max(1, 2 * ENOUGH_IMAGES // batch_size))

    def add(self, images, labels, metrics):
        """Keeps the batch and the metrics of a step; those of the last steps are held."""
        self._steps.append((images, labels, metrics["top_1"]))

    def warning(self, evaluator):
        """The text of a warning, or None where the modes agree or too few images were kept.

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
        if abs(in_training - in_evaluation) <= APART:
            return None
        return (
            f"warning: on the last {count} training images top-1 is {in_training:.4f} with the "
            f"statistics of the batch, but {in_evaluation:.4f} with the moving averages that evaluation takes: they "
            "trail behind; the same command with --recalibrate_batch_norm=1000 (and no --stop_at_top_1) measures batch "
            "norm's anew, and a lower --batch_norm_decay or more steps let them keep up"
        )

    def _local_batches(self):
        for images, labels, _ in self._steps:
            locals_ = map(self._workers.strategy.experimental_local_results, (images, labels))
            for local_images, local_labels in zip(*locals_, strict=True):
                # Of a mixed image, the greater part's class; as the step counts it.
                mixed = local_labels.shape.rank == 2
                local_labels = tf.argmax(local_labels, -1, tf.int32) if mixed else local_labels
                yield from zip(tf.split(local_images, self._parts), tf.split(local_labels, self._parts), strict=True)
