"""Turns a configuration into steps to time, with network and input ready before the clock starts."""

import numpy as np
import tensorflow as tf

from benchmarks import engines, results
from nets import nets_factory
from nets.folding import FoldedModel
from nets.model import multiply_adds_of
from training.optimizers import make_momentum
from training.step import TrainStep

# Small, so that weights stay finite when they see one batch a hundred times.
_LEARNING_RATE = 1e-3


def build_steps(configuration):
    """Makes the network, its input and the steps to time.

    Args:
      configuration: A grid.Configuration.

    Returns:
      A results.Setup, and a dict from each pass of the configuration to an engines.Step.

    Raises:
      UserError: If the data set or an engine is missing, or the engine lacks the precision.
    """
    precision = configuration.precision
    dataset_name, images, labels, num_classes = _input(configuration)
    # OpenVINO rounds the file it reads itself.
    compute_dtype = "float32" if configuration.engine == "openvino" else precision
    model = nets_factory.create_model(
        configuration.model, num_classes, compute_dtype=compute_dtype, seed=configuration.seed
    )
    setup = results.Setup(
        model=configuration.model,
        engine=configuration.engine,
        precision=precision,
        batch_size=configuration.batch_size,
        image_size=configuration.image_size,
        num_classes=num_classes,
        parameters=sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
        dataset=dataset_name,
        forward_mode=configuration.forward_mode,
        folded=configuration.folded,
        **count(model, configuration.image_size),
    )
    return setup, _steps(configuration, model, images, labels)


def count(model, image_size):
    """The least that a forward pass of one image takes, from the convolutions of the unfolded network.

    Returns:
      A dict: multiply_adds, activation_values (read and written: each convolution's input and output) and
      weight_values (read once per batch).
    """
    convolutions = [operation for operation in model.operations(image_size) if operation.type == "Conv2D"]
    sizes = [
        [int(np.prod(tensor.shape.as_list())) for tensor in (*operation.inputs, *operation.outputs)]
        for operation in convolutions
    ]
    return {
        "multiply_adds": sum(map(multiply_adds_of, convolutions)),
        "activation_values": sum(read + written for read, _, written in sizes),
        "weight_values": sum(weights for _, weights, _ in sizes),
    }


def _steps(configuration, model, images, labels):
    network = FoldedModel(model) if configuration.folded else model
    updates = "train_step" in configuration.passes
    trainable = {name: value for name, value in model.variables_by_name.items() if value.trainable}
    train_step = TrainStep(
        model, make_momentum(trainable) if updates else None, lambda step: tf.constant(_LEARNING_RATE)
    )
    steps = {}
    for name in configuration.passes:
        if name == "forward":
            steps[name] = engines.forward_step(network, configuration, images)
        else:
            method = "step" if name == "train_step" else name
            steps[name] = engines.method_step(train_step, method, images, labels)
    return steps


def _input(configuration):
    """The name of the data set, one batch of float32 images and int32 labels, and the number of classes."""
    from data import catalog, preprocessing, records

    image_size, batch_size = configuration.image_size, configuration.batch_size
    if configuration.dataset_dir is None and configuration.dataset_name in (None, "synthetic"):
        random = np.random.default_rng(configuration.seed)
        images = tf.constant(random.random([batch_size, image_size, image_size, 3], dtype=np.float32))
        labels = tf.constant(random.integers(configuration.num_classes, size=batch_size), tf.int32)
        return "synthetic", images, labels, configuration.num_classes
    dataset = catalog.open_dataset(configuration.dataset_name, configuration.dataset_dir)
    network = nets_factory.find_network(configuration.model)
    family = preprocessing.find_family(dataset.row.preprocessing_name or network.preprocessing_name)
    preprocess = preprocessing.Preprocess(family, image_size, image_size, is_training=True)
    split = dataset.row.train_split
    with records.explain_errors(dataset, split):
        batches = records.training_batches(dataset, split, preprocess, batch_size, configuration.seed)
        images, labels = next(iter(batches))
    return dataset.name, images, labels, dataset.num_classes
