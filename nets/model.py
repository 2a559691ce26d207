"""A network as an object that owns its variables by their Slim names."""

import warnings
import zlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from command_line import UserError
from nets import checkpoints

COMPUTE_DTYPES = ("float32", "bfloat16", "float16")


class _VariableSpec(NamedTuple):
    """A variable as a network requests it."""

    name: str
    shape: tuple
    initializer: object
    trainable: bool


class SlimModel(tf.Module):
    """A Slim network function together with its variables.

    Make one with `nets_factory.create_model`; in a tf.distribute strategy's scope, its variables are the strategy's.

    Attributes:
      settings: JSON-able arguments of `create_model`.
      variables_by_name: A dict of Slim name -> tf.Variable (float32), in the order the network asks for them.
      default_image_size: Height and width the network was designed for.
      num_classes: Classes of the logits; None or 0 for features.
      compute_dtype: tf.DType of the activations.
      end_point_names: Full names of the end points, in the order the network makes them.
    """

    def __init__(self, network_fn, settings, default_image_size, compute_dtype="float32", seed=0):
        """Finds the network's variables and makes them.

        Args:
          network_fn: network_fn(images, is_training, **arguments of conv2d) -> (net, end_points); images
            [batch, height, width, channels], or [batch, channels, height, width] where settings["data_format"] is NCHW.
          settings: As the attribute.
          default_image_size: As the attribute.
          compute_dtype: Dtype of the activations, one of COMPUTE_DTYPES.
          seed: Seed of the initial values; None makes them all zeros.

        Raises:
          UserError: If the dtype is unknown.
        """
        super().__init__(name=settings["model_name"])
        if compute_dtype not in COMPUTE_DTYPES:
            raise UserError(f"compute_dtype is {compute_dtype!r}, expected one of: {', '.join(COMPUTE_DTYPES)}")
        # Bypasses tf.Module's own __setattr__, which wraps dicts for tracking: json and SavedModel then refuse them.
        object.__setattr__(self, "settings", settings)
        object.__setattr__(self, "_feature_functions", {})
        self.num_classes = settings["num_classes"]
        self.default_image_size = default_image_size
        self._network_fn = network_fn
        self.compute_dtype = tf.as_dtype(compute_dtype)
        self._traced = tf.function(self._build, autograph=False, reduce_retracing=True)
        specs, end_points = self._specs_on_paper()
        object.__setattr__(self, "end_point_names", end_points)
        self.variables_by_name = {spec.name: _make_variable(spec, seed) for spec in specs}

    def __call__(self, images, training=False):
        """Runs the network.

        Args:
          images: Preprocessed images, [batch, height, width, channels].
          training: Whether norms use batch statistics and update their averages: a bool, a scalar boolean tensor, or a
            function that gives one for the scope of a norm.

        Returns:
          logits: float32 [batch, num_classes], or features where there are no classes.
          end_points: Activations by name, as the network function returns them.
        """
        if tf.executing_eagerly():
            return self._traced(tf.convert_to_tensor(images), training)
        return self._build(images, training)

    @property
    def trainable_variables(self):
        """The variables that training changes, in the order of `variables_by_name`."""
        return [variable for variable in self.variables_by_name.values() if variable.trainable]

    def regularization_loss(self):
        """Slim's L2 penalty, a float32 scalar: weight_decay * sum(w ** 2) / 2 over the weights of convolutions.

        Biases, gamma and beta are not decayed. It is computed from the float32 variables, whatever the compute dtype.
        """
        weights = [variable for name, variable in self.variables_by_name.items() if name.endswith("/weights")]
        return self.settings["weight_decay"] * tf.add_n([tf.nn.l2_loss(variable) for variable in weights])

    def features(self, images, end_points):
        """Computes chosen activations, and only the part of the network that they need.

        Args:
          images: Preprocessed images, [batch, height, width, channels].
          end_points: Names, full ("resnet_v2_50/block2") or without the network's scope ("block2", "global_pool").

        Returns:
          A dict of the names as given -> activations.

        Raises:
          UserError: If a name is unknown; the message lists the known ones.
        """
        names = tuple(end_points)
        if names not in self._feature_functions:
            self._feature_functions[names] = self.feature_extractor(names)
        return self._feature_functions[names](tf.convert_to_tensor(images))

    def feature_extractor(self, end_points):
        """Makes a function that computes chosen activations, as a base for a detector, a segmenter or a linear probe.

        Norms use their moving averages. Gradients flow to the images and to `trainable_variables`. Only what the chosen
        end points need is computed.

        Args:
          end_points: Names as in `features`.

        Returns:
          A tf.function: images as in `features` -> a dict of the names as given -> activations.

        Raises:
          UserError: If a name is unknown; the message lists the known ones.
        """
        full_names = {name: self.full_end_point_name(name) for name in end_points}

        def extract(images):
            known = self._build(images, False)[1]
            return {name: known[full_name] for name, full_name in full_names.items()}

        return tf.function(extract, autograph=False, reduce_retracing=True)

    def full_end_point_name(self, name):
        """The full name of an end point: "resnet_v2_50/block2" for "block2".

        Raises:
          UserError: If the name is unknown; the message lists the known ones except those within units.
        """
        scope = self.settings.get("scope", self.name)
        for candidate in (name, f"{scope}/{name}"):
            if candidate in self.end_point_names:
                return candidate
        inner = [known for known in self.end_point_names if "/unit_" in known]
        outer = [known for known in self.end_point_names if known not in inner]
        more = f", and {len(inner)} within units, such as {inner[0]}" if inner else ""
        raise UserError(f"unknown end point {name!r}; known: {', '.join(outer)}{more}")

    def save(self, path):
        """Writes the variables to a checkpoint at prefix `path`; see `checkpoints.write`."""
        checkpoints.write(path, self.variables_by_name)

    def restore(self, path, moving_averages=None):
        """Reads the variables from a Slim-named checkpoint, V1 or V2; see `checkpoints.restore`.

        Args:
          path: A folder (its newest checkpoint), a prefix, or a file.
          moving_averages: Whether to read the variables' moving averages instead. None does so if the checkpoint holds
            some, because the trainer's evaluations score the averages.

        Returns:
          The prefix that was read.

        Raises:
          UserError: Also if `moving_averages` is True and the checkpoint holds none.
        """
        variables = self.variables_by_name
        names = None if moving_averages is False else checkpoints.names_with_averages(path, variables)
        if names:
            variables = {names[name]: variable for name, variable in variables.items()}
        elif moving_averages:
            raise UserError(
                f"checkpoint {path} holds no moving averages: train with --moving_average_decay, or do not ask for them"
            )
        return checkpoints.restore(path, variables)

    def multiply_adds(self, image_size):
        """Counts the multiply-adds of all convolutions in a forward pass of one image of image_size x image_size."""
        return sum(map(multiply_adds_of, self.operations(image_size)))

    def operations(self, image_size):
        """The tf.Operations of a forward pass of one image of image_size x image_size, traced but not run."""
        graph = tf.Graph()
        with graph.as_default():
            self._build(self._paper_image(image_size), False, _placeholder)
        return graph.get_operations()

    def build_inference(self, images, variable_getter, **conv2d_arguments):
        """Traces the network into the current graph with other variables and other convolutions; see `nets.folding`.

        Args:
          images: Preprocessed images, [batch, height, width, channels].
          variable_getter: A custom getter of `tf.compat.v1.variable_scope`, in place of this model's variables.
          **conv2d_arguments: Arguments of every `slim.conv2d` that does not set them itself.

        Returns:
          As `__call__`.

        Raises:
          UserError: If the network's data format cannot run on this machine.
        """
        self._check_runs_here()
        return self._build(images, False, variable_getter, **conv2d_arguments)

    def _check_runs_here(self):
        if self.settings["data_format"] == "NCHW" and not tf.config.list_physical_devices("GPU"):
            raise UserError("data_format NCHW needs a GPU: TensorFlow convolves NHWC only on this CPU; use NHWC")

    def _build(self, images, training, variable_getter=None, **conv2d_arguments):
        """Traces the network into the current graph; a custom getter `variable_getter` replaces our variables."""
        if variable_getter is None:
            self._check_runs_here()
        if self.settings["data_format"] == "NCHW":
            images = tf.transpose(images, [0, 3, 1, 2])
        images = tf.cast(images, self.compute_dtype)
        getter = variable_getter or self._get_variable
        scope = tf.compat.v1.variable_scope("", custom_getter=getter, reuse=tf.compat.v1.AUTO_REUSE)
        with warnings.catch_warnings(), scope:
            # tf-slim calls TensorFlow's legacy layers by deprecated names, which warns once for each layer.
            warnings.simplefilter("ignore", UserWarning)
            net, end_points = self._network_fn(images, is_training=training, **conv2d_arguments)
        return tf.cast(net, tf.float32), end_points

    def _get_variable(self, getter, name, dtype=tf.float32, **unused):
        """Gives our variable to the network, in the dtype it computes in."""
        variable = self.variables_by_name[name]
        return variable if tf.as_dtype(dtype) == variable.dtype else tf.cast(variable, dtype)

    def _specs_on_paper(self):
        """Traces the network once and lists the variables it requests and the end points it makes."""
        specs = {}

        def record(getter, name, shape=None, initializer=None, trainable=True, **arguments):
            specs.setdefault(name, _VariableSpec(name, tuple(shape), initializer, bool(trainable)))
            return _placeholder(getter, name, shape=shape, **arguments)

        with tf.Graph().as_default():
            _, end_points = self._build(self._paper_image(self.default_image_size), False, record)
        return list(specs.values()), tuple(end_points)

    def _paper_image(self, size):
        return tf.compat.v1.placeholder(tf.float32, [1, size, size, self.settings["input_channels"]])


def multiply_adds_of(operation):
    """Multiply-adds of a graph operation; 0 for all but convolutions."""
    if operation.type != "Conv2D":
        return 0
    kernel = operation.inputs[1].shape.as_list()
    # Each output value sums over one kernel window: height * width * input channels.
    return int(np.prod(operation.outputs[0].shape.as_list())) * int(np.prod(kernel[:3]))


def _placeholder(getter, name, shape=None, dtype=tf.float32, **unused):
    return tf.compat.v1.placeholder(dtype, shape)


def _first_value(spec, seed):
    """An array that depends only on the seed and the variable's name, not on what was made before it."""
    if seed is None:
        return np.zeros(spec.shape, np.float32)
    for constant, value in ((tf.compat.v1.zeros_initializer, 0.0), (tf.compat.v1.ones_initializer, 1.0)):
        if isinstance(spec.initializer, constant):
            return np.full(spec.shape, value, np.float32)
    # In a graph of its own, an op without a seed takes one that depends only on the graph's seed.
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.set_random_seed(zlib.crc32(f"{seed}/{spec.name}".encode()) & 0x7FFFFFFF)
        return session.run(spec.initializer(spec.shape, dtype=tf.float32))


def _make_variable(spec, seed):
    value = _first_value(spec, seed)
    if spec.trainable:
        return tf.Variable(value, name=spec.name, trainable=True)
    # Moving statistics: each replica averages its own batches; reading them from outside gives the mean over replicas.
    return tf.Variable(
        value,
        name=spec.name,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
    )
