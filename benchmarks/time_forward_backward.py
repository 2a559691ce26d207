"""Times the forward pass and the forward and backward pass of a network, on this machine.

    python benchmarks/time_forward_backward.py --model resnet_v2_152

builds the network with random weights, feeds it one batch of images that is ready before the clock starts (random
ones, or a data set's as training would see them), and prints a line every 10 steps and one for each pass:

    2026-11-22 03:04:05.123456: step 10, duration = 9.012
    2026-11-22 03:04:05.123456: Forward across 100 steps, 9.112 +/- 0.153 sec / batch

Forward is inference: batch norm uses its moving averages and there are no gradients. Forward-backward is
what training computes, the loss and the gradients of all trainable variables, but the weights stay as they
are. The deviation is that of the sample.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Literal

if not __package__:
    # A script run by its path finds only its own folder; this adds the folder of the zoo's packages.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import command_line
from benchmarks import environment, printing, results, timing
from benchmarks.results import PASSES
from command_line import UserError


@dataclasses.dataclass(frozen=True)
class TimingConfig:
    """Times the forward and the forward-backward pass of a network on random images."""

    model: str = "resnet_v2_152"
    """The network, a name of nets/nets_factory.py."""
    batch_size: int = 32
    """Images in a step."""
    image_size: int | None = None
    """Height and width of the images in pixels; None for the network's own (224 for ImageNet networks)."""
    num_batches: int = 100
    """Steps to time in each pass."""
    burn_in: int = 10
    """Steps to run before those; one more comes before them, which traces the step."""
    num_classes: int = 1000
    """Width of the last layer; of a data set with records, the number of its classes."""
    dataset_name: str | None = None
    """Data set that the images come from; None, or synthetic, for random images."""
    dataset_dir: str | None = None
    """Folder of that data set's TFRecords."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the activations; auto takes the one that training would take on this device."""
    seed: int = 0
    """Of the weights and the images."""
    json: Path | None = None
    """A file for the results: every step time, and the machine they were measured on."""


def main(config):
    if config.json:
        results.check_json_path(config.json)
    # Before the work begins, so that the load it records is that of others.
    machine = environment.describe_environment()
    with printing.Printer(config.burn_in, config.num_batches) as printer:
        try:
            measured = time_network(config, printer)
        except KeyboardInterrupt:
            printer.interrupted()
            raise
    if config.json:
        results.write_json(config.json, machine, measured)


def time_network(config, reporter=None):
    """Times each pass of one network.

    Args:
      config: A TimingConfig.
      reporter: A printing.Reporter, which hears how the measurement goes.

    Returns:
      A list of results.Result, one for each row of PASSES and in their order.

    Raises:
      UserError: If the config is wrong.
    """
    _check(config)
    reporter = reporter or printing.Reporter()
    setup, steps = build_steps(config)
    reporter.started(setup)
    return [time_pass(setup, name, steps[name], config, reporter) for name in PASSES]


def time_pass(setup, pass_name, run_step, config, reporter):
    """Runs `run_step` once, for the first call traces and compiles, and then times it; returns a Result."""
    reporter.pass_started(pass_name)
    run_step()
    step_seconds = timing.time_steps(
        run_step,
        config.num_batches,
        config.burn_in,
        on_step=lambda index, seconds: reporter.step(pass_name, index, seconds),
    )
    result = results.Result(setup, pass_name, config.burn_in, tuple(step_seconds))
    reporter.pass_finished(result)
    return result


def build_steps(config):
    """Makes the network, its input and the steps to time.

    Args:
      config: A TimingConfig.

    Returns:
      A results.Setup, and a dict from each name of PASSES to a function without arguments.

    Raises:
      UserError: If there is no such network.
    """
    import numpy as np

    from nets import nets_factory
    from training import devices, step

    precision = devices.resolve_precision(config.precision)
    dataset_name, images, labels, num_classes = _input(config)
    image_size = images.shape[1]
    model = nets_factory.create_model(config.model, num_classes, compute_dtype=precision, seed=config.seed)
    train_step = step.TrainStep(model, optimizer=None, learning_rate_fn=None)

    setup = results.Setup(
        model=config.model,
        engine="tensorflow",
        precision=precision,
        batch_size=config.batch_size,
        image_size=image_size,
        num_classes=num_classes,
        parameters=sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
        multiply_adds=model.multiply_adds(image_size),
        dataset=dataset_name,
    )
    # Lambdas, since a tf.function that is a method does not keep its object alive.
    return setup, {
        "forward": make_step(lambda: train_step.forward(images)),
        "forward_backward": make_step(lambda: train_step.forward_backward(images, labels)),
    }


def _input(config):
    """The name of the data set, one batch of float32 images and int32 labels, and the number of classes."""
    import numpy as np
    import tensorflow as tf

    from data import catalog, preprocessing, records
    from nets import nets_factory

    network = nets_factory.find_network(config.model)
    image_size = config.image_size or network.default_image_size
    if config.dataset_dir is None and config.dataset_name in (None, "synthetic"):
        random = np.random.default_rng(config.seed)
        images = tf.constant(random.random([config.batch_size, image_size, image_size, 3], dtype=np.float32))
        labels = tf.constant(random.integers(config.num_classes, size=config.batch_size), tf.int32)
        return "synthetic", images, labels, config.num_classes
    dataset = catalog.open_dataset(config.dataset_name, config.dataset_dir)
    family = preprocessing.find_family(dataset.row.preprocessing_name or network.preprocessing_name)
    preprocess = preprocessing.Preprocess(family, image_size, image_size, is_training=True)
    split = dataset.row.train_split
    with records.explain_errors(dataset, split):
        batches = records.training_batches(dataset, split, preprocess, config.batch_size, config.seed)
        images, labels = next(iter(batches))
    return dataset.name, images, labels, dataset.num_classes


def make_step(compute):
    """Makes of `compute`, a function that calls a tf.function, one that waits for its result.

    On a CPU a tf.function returns when it is done; on a GPU, when its kernels are queued. `sync_devices`
    waits for either and itself takes some 30 microseconds. Fetching the logits would wait too, but would put
    their copy to the host on the clock; fetching a part of them, another op.
    """
    import tensorflow as tf

    def run_step():
        result = compute()
        tf.test.experimental.sync_devices()
        return result

    return run_step


def _check(config):
    timing.check_step_counts(config.num_batches, config.burn_in)
    for name in ("batch_size", "image_size", "num_classes"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}; it must be at least 1")


if __name__ == "__main__":
    command_line.run(main, TimingConfig)
