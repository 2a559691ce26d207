"""Where in an image a network saw a class: gradient-weighted class activation maps.

Source: Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization,
arXiv:1610.02391.
"""

import itertools
import pathlib
import re

import numpy as np
import tensorflow as tf

from command_line import UserError
from inference.image_files import printable
from whole_files import written_whole

_DOTS_PER_INCH = 100
_SIDE_INCHES = 3.6


class GradCam:
    """Maps of a model; however often it is called, it traces the network once."""

    def __init__(self, model):
        """Args: model: A SlimModel with classes."""
        self._model = model
        blocks = [name for name in model.end_point_names if re.fullmatch(r".*/block\d+", name)]
        self._end_point = blocks[-1]
        self._compute = tf.function(self._maps, autograph=False, reduce_retracing=True)

    def __call__(self, images, class_ids):
        """Computes how much each position of the last block supports a class.

        Args:
          images: Preprocessed images, float32 [batch, height, width, 3].
          class_ids: Class of each image, int [batch].

        Returns:
          float32 [batch, rows, columns] of the last block, at least 0, in units of the logit. In a v1 network, whose
          head is linear, a map without negative parts sums to the logit minus its bias.
        """
        return self._compute(tf.convert_to_tensor(images), tf.convert_to_tensor(class_ids)).numpy()

    def _maps(self, images, class_ids):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits, end_points = self._model(images)
            scores = tf.gather(logits, class_ids, batch_dims=1)
        activations = end_points[self._end_point]
        # The paper's equations 1 and 2: a channel weighs as much as its mean gradient.
        weights = tf.reduce_mean(tape.gradient(scores, activations), axis=[1, 2], keepdims=True)
        return tf.nn.relu(tf.reduce_sum(weights * activations, axis=-1))


class Pictures:
    """Writes a PNG for each classified image: what the network was shown, and on it where it saw the top class."""

    def __init__(self, folder, trained, names, overwrite):
        """Chooses file names, one for each image.

        Args:
          folder: Folder for the pictures; created if missing.
          trained: A TrainedNetwork.
          names: Names of all images.
          overwrite: Whether pictures that exist are replaced.

        Raises:
          UserError: If a picture exists and may not be replaced, or the folder cannot be made.
        """
        self._trained = trained
        self._maps = GradCam(trained.model)
        self._paths = _picture_paths(pathlib.Path(folder), names)
        there = next((path for path in self._paths.values() if path.exists()), None)
        if there is not None and not overwrite:
            raise UserError(f"{there} exists already: give another folder, or --overwrite")
        try:
            pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"folder {folder} cannot be made ({error.strerror}): give another") from None

    def draw(self, batch, results):
        """Draws the pictures of a Batch; `results` as `classify` gives them."""
        class_ids = [result["predictions"][0]["class_id"] for result in results]
        for image, heat, result in zip(batch.images, self._maps(batch.images, class_ids), results, strict=True):
            path = self._paths[result["image"]]
            picture = as_picture(image, self._trained.preprocess)
            with written_whole(path) as part:
                _draw(part, np.broadcast_to(picture, [*picture.shape[:2], 3]), heat, result)


def as_picture(image, preprocess):
    """Undoes the scaling of a preprocessing: exactly where it is linear, else by stretching from black to white.

    Args:
      image: Preprocessed, float32 [height, width, channels].
      preprocess: The preprocessing that made it from uint8 [height, width, channels].

    Returns:
      float32 [height, width, channels] in 0..1.
    """
    black, white = (preprocess(np.full(image.shape, level, np.uint8)).numpy() for level in (0, 255))
    if not np.all(white > black):  # It standardises each image by itself, and these two are flat.
        black, white = image.min(), max(image.max(), image.min() + 1e-6)
    return np.clip((image - black) / (white - black), 0.0, 1.0)


def _picture_paths(folder, names):
    paths, taken = {}, set()
    for name in names:
        stem = "stdin" if name == "-" else pathlib.Path(name).stem
        path = pathlib.Path(name).with_suffix("")
        parts = [part for part in path.parts if part != path.anchor]
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        candidates = itertools.chain([stem, "-".join(parts[-2:])], numbered)
        chosen = next(candidate for candidate in candidates if candidate not in taken)
        if name not in paths:
            taken.add(chosen)
            paths[name] = folder / f"{chosen}.png"
    return paths


def _draw(path, picture, heat, result):
    import matplotlib.figure

    figure = matplotlib.figure.Figure(
        figsize=(2 * _SIDE_INCHES + 0.3, _SIDE_INCHES + 0.6), dpi=_DOTS_PER_INCH, layout="constrained"
    )
    shown, seen = figure.subplots(1, 2)
    height, width = picture.shape[:2]
    first = result["predictions"][0]
    shown.imshow(picture, interpolation="bilinear")
    shown.set_title("what the network is shown", fontsize=9)
    heat = heat / max(float(heat.max()), 1e-12)
    smooth = tf.image.resize(heat[..., np.newaxis], [height, width], method="bicubic").numpy()[..., 0].clip(0, 1)
    grey = picture.mean(axis=-1)
    seen.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    # Positions that do not support the class stay as they are.
    seen.imshow(smooth, cmap="inferno", vmin=0, vmax=1, alpha=0.7 * np.sqrt(smooth), interpolation="bilinear")
    name = first["name"] or f"class {first['class_id']}"
    seen.set_title(f"where it sees: {name} ({first['probability']:.1%})", fontsize=9, parse_math=False)
    for axes in (shown, seen):
        axes.set_axis_off()
    # Without parse_math, which would render text between two $ as a formula.
    figure.suptitle(printable(pathlib.Path(result["image"]).name), fontsize=10, parse_math=False)
    figure.savefig(path, format="png")
