"""What every format writes: the folded network between a named input and named outputs."""

import json

import numpy as np
import tensorflow as tf

from command_line import UserError

INPUT = "images"
CLASSES, PROBABILITIES, LOGITS, FEATURES = "classes", "probabilities", "logits", "features"


class ExportedNetwork:
    """A folded network with everything that an export says about it.

    Attributes:
      precision: "float32", "float16", "bfloat16" or "int8"; for int8 the format quantizes a float32 network.
      channels: Of the images: 3 for RGB, 1 for grey.
      input_shape: [None, size, size, channels], or [None, channels, size, size].
      end_points: Names of activations that are outputs too.
      description: JSON-able: format, precision, network, preprocessing, input, outputs, labels_offset, label_names.
    """

    def __init__(self, folded, preprocess, size, precision, input_format, end_points, description):
        """Names inputs and outputs and traces the network.

        Args:
          folded: A `nets.folding.FoldedModel`.
          preprocess: A `data.preprocessing.Preprocess`.
          size: Height and width of the network's input.
          precision, end_points: As the attributes.
          input_format: NHWC or NCHW.
          description: What is known already; input and outputs are added.

        Raises:
          UserError: If an end point is unknown or has the name of another output.
        """
        self._folded = folded
        self._preprocess = preprocess
        self._nchw = input_format == "NCHW"
        self.precision = precision
        self.channels = folded.settings["input_channels"]
        self.input_shape = self._shape(size)
        self.end_points = end_points
        taken = {CLASSES, PROBABILITIES, LOGITS, FEATURES} & set(end_points)
        if taken:
            raise UserError(
                f"--end_points names {', '.join(sorted(taken))}, which is an output by itself; leave it out"
            )
        # Traced once: each signature of a SavedModel calls it, so the file holds the constants once.
        signature = [tf.TensorSpec(self.input_shape, tf.float32, name=INPUT)]
        self.function = tf.function(lambda images: self._outputs(images), input_signature=signature, autograph=False)
        outputs = self.function.get_concrete_function().structured_outputs
        self.description = description | {
            "input": {"name": INPUT, "shape": self.input_shape, "dtype": "float32", "layout": input_format},
            "outputs": {
                name: {"shape": value.shape.as_list(), "dtype": value.dtype.name} for name, value in outputs.items()
            },
        }

    @property
    def pixels_shape(self):
        """Shape of decoded images before they are preprocessed: of any height and width."""
        return self._shape(None)

    def in_layout(self, images):
        """An array of images [batch, height, width, channels] in the layout that the export takes."""
        return np.ascontiguousarray(images.transpose([0, 3, 1, 2])) if self._nchw else images

    def function_of_weights(self):
        """The network with the weights of its convolutions as inputs, for a converter that copies constants often.

        Returns:
          function: A tf.function of images and then each of the weights.
          weights: A dict of input name -> array, in that order, in the compute dtype.
        """
        names = [name for name, value in self._folded.values_by_name.items() if value.ndim == 4]
        dtype = self._folded.compute_dtype
        weights = {
            name.replace("/", "_"): self._folded.values_by_name[name].astype(dtype.as_numpy_dtype) for name in names
        }

        def function(images, *tensors):
            return self._outputs(images, dict(zip(names, tensors, strict=True)))

        signature = [tf.TensorSpec(self.input_shape, tf.float32, name=INPUT)]
        signature += [tf.TensorSpec(value.shape, dtype, name=name) for name, value in weights.items()]
        return tf.function(function, input_signature=signature, autograph=False), weights

    def texts(self):
        """Texts to store with the weights, {file name: text}: the description, and the labels, one per line."""
        texts = {"export.json": json.dumps(self.description, indent=2, ensure_ascii=False) + "\n"}
        if self.description["label_names"]:
            texts["labels.txt"] = "".join(f"{name}\n" for name in self.description["label_names"])
        return texts

    def preprocess_bytes(self, encoded):
        """Decodes and preprocesses image files: string [batch] -> float32 of `input_shape`."""
        return self._as_input(_map(self._preprocess.from_encoded, encoded))

    def preprocess_pixels(self, pixels):
        """Preprocesses decoded images of one size: uint8 of `pixels_shape`."""
        if self._nchw:
            pixels = tf.transpose(pixels, [0, 2, 3, 1])
        return self._as_input(_map(self._preprocess, pixels))

    def _shape(self, size):
        return [None, self.channels, size, size] if self._nchw else [None, size, size, self.channels]

    def _as_input(self, images):
        if self._nchw:
            images = tf.transpose(images, [0, 3, 1, 2])
        return tf.ensure_shape(images, self.input_shape)

    def _outputs(self, images, values=None):
        if self._nchw:
            images = tf.transpose(images, [0, 2, 3, 1])
        net, end_points = self._folded.build(images, values or {})
        return named_outputs(self._folded, net, end_points, self.end_points)


def _map(function, elements):
    """Applies a function to each element of a batch, several at a time.

    Uses tf.data, as evaluation does. Elsewhere TensorFlow rewrites arithmetic such as a division by a constant, which
    changes the last bit of the result.
    """
    results = tf.data.Dataset.from_tensor_slices(elements).map(function, num_parallel_calls=tf.data.AUTOTUNE)
    return results.batch(tf.shape(elements, out_type=tf.int64)[0]).get_single_element()


def named_outputs(model, net, end_points, names):
    """The outputs of a network, by name.

    Args:
      model: The SlimModel or FoldedModel that was called.
      net, end_points: What it returned.
      names: Chosen end points.

    Returns:
      A dict: classes (int64, the most probable), probabilities and logits (float32), or features where there are no
      classes; and the end points, float32.
    """
    chosen = {name: tf.cast(end_points[model.full_end_point_name(name)], tf.float32) for name in names}
    if not model.num_classes:
        return {FEATURES: net} | chosen
    return {CLASSES: tf.argmax(net, axis=-1), PROBABILITIES: tf.nn.softmax(net), LOGITS: net} | chosen
