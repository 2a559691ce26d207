"""The same network with the same weights in other systems: each is a function from a Task to a Contestant."""

import dataclasses
from typing import NamedTuple

import numpy as np

from benchmarks import engines, environment
from benchmarks.grid import Configuration
from command_line import UserError

_LEARNING_RATE = 1e-3
_MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Task:
    """What all contestants compute.

    Attributes:
      model: A SlimModel, float32, whose weights they copy.
      configuration: A grid.Configuration of one pass, forward or train_step.
      images: float32 tensor [batch, height, width, 3].
      labels: int32 tensor [batch].
    """

    model: object
    configuration: Configuration
    images: object
    labels: object

    @property
    def trains(self):
        return self.configuration.passes == ("train_step",)


class Contestant(NamedTuple):
    """A system that is ready to run.

    Attributes:
      step: A function of no arguments that does a step and returns its result once it is ready.
      value: From a result to a float32 array: logits, or the cross-entropy before the update.
    """

    step: object
    value: object


def zoo(task):
    """This zoo: plain inference, or the training step as the trainer runs it."""
    return _ours(task, folded=False)


def zoo_folded(task):
    """This zoo's folded inference form."""
    _forward_only(task)
    return _ours(task, folded=True)


def keras(task):
    """Keras Applications on TensorFlow, without XLA, which is slow on CPUs."""
    import keras
    import tensorflow as tf

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if task.configuration.precision == "bfloat16" else "float32")
    try:
        network = keras_network(task)
    finally:
        keras.config.set_dtype_policy(policy)
    if not task.trains:
        forward = tf.function(lambda images: network(images, training=False), autograph=False)
        return Contestant(engines.make_step(lambda: forward(task.images)), _as_float32)
    optimizer = keras.optimizers.SGD(
        _LEARNING_RATE, momentum=_MOMENTUM, weight_decay=task.model.settings["weight_decay"]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer, loss, jit_compile=False)
    # It returns the mean loss of the steps so far, at first that of the first step.
    return Contestant(lambda: network.train_on_batch(task.images, task.labels), np.float32)


def keras_network(task):
    """Keras Applications' network with a task's weights; a UserError if it has no such network."""
    from weights import keras as keras_format
    from weights import keras_models, mapping, places

    structure = places.structure_of(task.model.settings["model_name"])
    size = task.configuration.image_size
    keras_format.check_target(structure, task.model.settings, size)
    network = keras_models.build(structure, task.model.num_classes, size)
    # The images are fed to the network unchanged, so its first convolution stays RGB.
    keras_models.set_weights(network, mapping.from_ours(keras_format, structure, task.model, reverse_channels=False))
    return network


def torch(task):
    """PyTorch as it is, channels last."""
    return _torch(task, compiled=False)


def torch_compile(task):
    """PyTorch through torch.compile, which needs a C++ compiler."""
    return _torch(task, compiled=True)


def onnxruntime(task):
    """ONNX Runtime on what `export_model.py --format=onnx` writes."""
    return _exported(task, "onnxruntime")


def openvino(task):
    """OpenVINO on what `export_model.py --format=openvino` writes."""
    return _exported(task, "openvino")


CONTESTANTS = {
    "slim_resnets": zoo,
    "slim_resnets_folded": zoo_folded,
    "keras": keras,
    "torch": torch,
    "torch_compile": torch_compile,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
}


def _forward_only(task):
    if task.trains:
        raise UserError("computes the forward pass only")


def _as_float32(result):
    return np.asarray(result, np.float32)


def _copy_of(model, precision):
    """A copy of our network with the same weights, computed in `precision`."""
    from nets import nets_factory

    copy = nets_factory.create_model(**model.settings, compute_dtype=precision, seed=None)
    for name, variable in copy.variables_by_name.items():
        variable.assign(model.variables_by_name[name])
    return copy


def _ours(task, folded):
    from nets.folding import FoldedModel

    model = _copy_of(task.model, task.configuration.precision)
    if not task.trains:
        network = FoldedModel(model) if folded else model
        step = engines.forward_step(network, dataclasses.replace(task.configuration, engine="tensorflow"), task.images)
        step.prepare()
        return Contestant(step.run, _as_float32)
    return train_contestant(model, task.images, task.labels)


def train_contestant(model, images, labels):
    """A SlimModel's training step, as the trainer runs it."""
    import tensorflow as tf

    from training.optimizers import make_momentum
    from training.step import TrainStep

    trainable = {name: value for name, value in model.variables_by_name.items() if value.trainable}
    train_step = TrainStep(model, make_momentum(trainable, _MOMENTUM), lambda step: tf.constant(_LEARNING_RATE))
    run = engines.make_step(lambda: train_step.step(images, labels))
    return Contestant(run, lambda result: _as_float32(result["cross_entropy"]))


def _exported(task, engine):
    from nets.folding import FoldedModel

    _forward_only(task)
    configuration = dataclasses.replace(task.configuration, engine=engine)
    step = engines.forward_step(FoldedModel(task.model), configuration, task.images)
    step.prepare()
    return Contestant(step.run, lambda result: np.array(result, np.float32).reshape([len(task.images), -1]))


def _torch(task, compiled):
    try:
        import torch
    except ImportError as error:
        raise UserError(f"cannot be imported ({error}): pip install -e '.[torch]'") from error

    from benchmarks import torch_network

    torch.set_num_threads(task.configuration.intra_op_threads or environment.usable_cores())
    network = torch_network.build(task.model).train(task.trains)
    images = torch.from_numpy(np.array(task.images).transpose([0, 3, 1, 2]))
    images = images.to(memory_format=torch.channels_last)
    labels = torch.from_numpy(np.array(task.labels)).long()
    lower = task.configuration.precision == "bfloat16"
    if lower and not task.trains:
        # Rounded once; autocast would round the weights in each step.
        network, images = network.bfloat16(), images.bfloat16()
    function = torch.compile(network) if compiled else network

    def forward():
        with torch.inference_mode():
            return function(images)

    optimizer = torch.optim.SGD(
        network.parameters(), _LEARNING_RATE, _MOMENTUM, weight_decay=task.model.settings["weight_decay"]
    )

    def train():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            loss = torch.nn.functional.cross_entropy(function(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return Contestant(train if task.trains else forward, lambda result: result.detach().float().numpy())
