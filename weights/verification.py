"""Checks a conversion by numbers: the source's own network and ours on the same pictures."""

import numpy as np

from command_line import UserError
from data import preprocessing as families

NUM_IMAGES = 2


def compare(library, structure, source, model, preprocessing, tolerance):
    """Runs the library's network and ours on the same pictures of noise and compares logits and probabilities.

    Args:
      library: A module of `formats`.
      structure: A places.Structure.
      source: A foreign.Foreign, read by that library.
      model: A SlimModel.
      preprocessing: The settings that model.json records.
      tolerance: Largest difference allowed, relative to the largest logit's magnitude.

    Returns:
      A dict: reference (what was run), images, image_size, tolerance; difference (largest difference of logits over the
      largest magnitude of the source's logits), logits_difference, probabilities_difference.

    Raises:
      UserError: If the relative difference is above `tolerance`, or not a number.
    """
    size = preprocessing["image_size"]
    inputs = random_inputs(preprocessing, size)
    ours = np.asarray(model(inputs)[0])
    reference, theirs = library.run_source(structure, source, inputs, preprocessing)
    theirs = np.reshape(theirs, ours.shape)
    largest = float(np.abs(theirs - ours).max())
    result = {
        "reference": reference,
        "images": NUM_IMAGES,
        "image_size": size,
        "tolerance": tolerance,
        "difference": largest / (float(np.abs(theirs).max()) or 1.0),
        "logits_difference": largest,
        "probabilities_difference": float(np.abs(_softmax(theirs) - _softmax(ours)).max()),
    }
    if not result["difference"] <= tolerance:
        raise UserError(f"{describe(result)}: above --tolerance={tolerance:g}, so nothing was written; the file "
                        f"is not the {structure.model_name} it was taken for")  # fmt: skip
    return result


def describe(result):
    """A verification as a line of text."""
    return (
        f"against {result['reference']}, {result['images']} images of {result['image_size']} pixels: largest "
        f"difference of logits {result['logits_difference']:.3g} ({result['difference']:.3g} of the largest logit), "
        f"of probabilities {result['probabilities_difference']:.3g}"
    )


def random_inputs(preprocessing, size):
    """Network inputs made from pictures of coarse and fine noise: float32 [NUM_IMAGES, size, size, 3]."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    pictures = []
    for _ in range(NUM_IMAGES):
        coarse = tf.image.resize(random.integers(0, 256, [8, 8, 3]), [2 * size, 2 * size])
        noise = random.integers(-40, 41, [2 * size, 2 * size, 3])
        pictures.append(np.clip(coarse + noise, 0, 255).astype(np.uint8))
    evaluate = families.get_preprocessing(preprocessing, is_training=False)
    return np.stack([evaluate(picture, size, size) for picture in pictures])


def _softmax(logits):
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)
