"""From images to labelled predictions: what `classify_images.py` runs."""

import dataclasses
import pathlib
from typing import Literal

import tyro

from command_line import UserError, check_at_least


@dataclasses.dataclass(frozen=True)
class ClassifyConfig:
    """Classifies images with a checkpoint.

    Network, preprocessing, image size and class names come from the model.json beside the checkpoint. Images that
    cannot be read are named on stderr and skipped; the exit status is then 1.
    """

    images: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders, glob patterns; - reads stdin: one image, or paths, one per line."""
    checkpoint_path: pathlib.Path
    """Folder of a run (its newest checkpoint), or one checkpoint."""
    top_k: int = 5
    """Classes shown for each image, the most probable first."""
    format: Literal["table", "csv", "json"] = "table"
    """Output format."""
    explain: pathlib.Path | None = None
    """Folder for a picture of each image that shows where the network saw the top class (Grad-CAM)."""
    overwrite: bool = False
    """Replace existing pictures."""
    batch_size: int = 32
    """Images per step; the result does not depend on it."""
    image_size: int | None = None
    """Height and width of the images fed to the network, in pixels."""
    model_name: str | None = None
    """Network, for a checkpoint without model.json."""
    preprocessing_name: str | None = None
    """Preprocessing, for a checkpoint without model.json."""


def classify(config, on_result, on_failure):
    """Classifies images, in their order.

    Args:
      config: A ClassifyConfig.
      on_result: Called with a dict for each image that was read: image (its name) and predictions, a list of dicts of
        class_id, name (None where the checkpoint has no names) and probability, the most probable first.
      on_failure: Called with the name and the reason for each image that was not.

    Returns:
      The numbers of images classified and not classified.

    Raises:
      UserError: If a flag or the checkpoint is bad, no image is found, or the network's outputs are not finite.
    """
    from inference import image_files, network
    from inference.batches import read_batches

    check_at_least(config, top_k=1, batch_size=1)
    if not config.images:
        raise UserError("no images given: name files, folders or patterns, or - for standard input")
    items = image_files.list_images(config.images)
    trained = network.load(config.checkpoint_path, config.model_name, config.preprocessing_name, config.image_size)
    if not trained.model.num_classes:
        raise UserError(f"{trained.checkpoint} has no classes: it can only give features (extract_features.py)")
    predict = _Predictor(trained, config.top_k)
    pictures = _pictures(config, trained, items)
    classified = failed = 0
    for batch in read_batches(items, trained, config.batch_size):
        for name, reason in batch.failures:
            on_failure(name, reason)
        failed += len(batch.failures)
        if not batch.items:
            continue
        results = predict(batch)
        if pictures is not None:
            pictures.draw(batch, results)
        for result in results:
            on_result(result)
        classified += len(results)
    return classified, failed


class _Predictor:
    """The most probable classes of batches."""

    def __init__(self, trained, top_k):
        import tensorflow as tf

        self._checkpoint = trained.checkpoint
        self._names = trained.label_names
        count = min(top_k, trained.model.num_classes)

        def best(images):
            logits, _ = trained.model(images)
            return tf.math.top_k(tf.nn.softmax(logits), count)

        self._best = tf.function(best, autograph=False, reduce_retracing=True)

    def __call__(self, batch):
        import numpy as np
        import tensorflow as tf

        probabilities, class_ids = (value.numpy() for value in self._best(tf.constant(batch.images)))
        if not np.isfinite(probabilities).all():
            raise UserError(f"the network's answers are not finite: the weights of {self._checkpoint} are spoilt")
        return [
            {
                "image": item.name,
                "predictions": [
                    {"class_id": int(class_id), "name": self._name(class_id), "probability": float(probability)}
                    for class_id, probability in zip(*row, strict=True)
                ],
            }
            for item, *row in zip(batch.items, class_ids, probabilities, strict=True)
        ]

    def _name(self, class_id):
        return self._names[class_id] if self._names else None


def _pictures(config, trained, items):
    if config.explain is None:
        return None
    from inference.grad_cam import Pictures

    return Pictures(config.explain, trained, [item.name for item in items], config.overwrite)
