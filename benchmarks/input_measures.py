"""The measures of `time_input_pipeline`: each is a function from its config and a folder for files to a Measured."""

import contextlib
import dataclasses
import itertools
import statistics

from benchmarks import environment, grid, input_contestants, made_images, rounds
from benchmarks.crops import Crop
from benchmarks.engines import make_step
from command_line import UserError

CIFAR_NETWORK = "resnet_cifar_v1_20"
_CIFAR_BATCH = 128
_NUM_CLASSES = 10
_CLASS_NAMES = [f"class {label}" for label in range(_NUM_CLASSES)]


@dataclasses.dataclass(frozen=True)
class Measured:
    """The result of a measure.

    Attributes:
      setup: What was measured, JSON-able.
      cores: Cores of each contestant.
      rates: {contestant: [images per second of each round]}.
      ratios: A tuple of rounds.Ratio.
    """

    measure: str
    setup: dict
    cores: int
    rates: dict
    ratios: tuple

    def per_core(self):
        """{contestant: [images per second and core, of each round]}."""
        return {name: [rate / self.cores for rate in rates] for name, rates in self.rates.items()}

    def to_json(self):
        """Returns a JSON-able dict with every rate."""
        return {
            "measure": self.measure,
            "setup": self.setup,
            "cores": self.cores,
            "images_per_second": self.rates,
            "median_images_per_second_per_core": {
                name: statistics.median(rates) for name, rates in self.per_core().items()
            },
            "ratios": [dataclasses.asdict(ratio) for ratio in self.ratios],
        }


def measure_jpeg(config, folder):
    """Measures JPEG records to float32 crops, for this zoo and its peers."""
    cores = config.cores or environment.usable_cores()
    crop = Crop(config.preprocessing, not config.evaluation, config.image_size)
    paths = _write_files(folder / "files", itertools.islice(_photographs(config), config.num_images))
    encoded = (path.read_bytes() for path in paths)
    dataset = made_images.write_dataset(folder / "records", "photographs", encoded, "jpg", _CLASS_NAMES)
    contestants = {"slim_resnets": input_contestants.zoo, **_peers(config)}
    with input_contestants.held_to_cores(cores), contextlib.ExitStack() as stack:
        rates = _run(
            config,
            {
                name: stack.enter_context(contestant(dataset, paths, crop, config.batch_size, cores))
                for name, contestant in contestants.items()
            },
        )
    setup = {
        "preprocessing": f"{config.preprocessing} of {'evaluation' if config.evaluation else 'training'}",
        "image_size": config.image_size,
        "images": len(paths),
        "from": str(config.dataset_dir or "made"),
        "mean_bytes": round(statistics.mean(path.stat().st_size for path in paths)),
        "batch_size": config.batch_size,
    }
    ratios = tuple(
        rounds.compare(f"slim_resnets over {name}", rates["slim_resnets"], rates[name]) for name in _peers(config)
    )
    return Measured("jpeg", setup, cores, rates, ratios)


def measure_cifar(config, folder):
    """Measures a cached data set with augmentation, with the threads of training, and the training of a ResNet-20."""
    from data import records

    images = made_images.make_thumbnails(config.num_thumbnails, config.seed, side=32)
    dataset = made_images.write_dataset(folder / "thumbnails", "thumbnails", images, "png", _CLASS_NAMES, [32, 32, 3])
    batches = records.training_batches(dataset, "train", _preprocess("cifar", 32), _CIFAR_BATCH, config.seed)
    setup, step, ready = _training_step(config, CIFAR_NETWORK, _NUM_CLASSES, _CIFAR_BATCH, 32)
    rates = _run(
        config,
        {
            "records": lambda: input_contestants.taking(batches),
            CIFAR_NETWORK: lambda: lambda: step(*ready),
        },
    )
    ratio = rounds.compare(f"images read over images that {CIFAR_NETWORK} trains on", *rates.values())
    setup = {**setup, "images": config.num_thumbnails, "preprocessing": "cifar"}
    return Measured("cifar", setup, environment.usable_cores(), rates, (ratio,))


def measure_step(config, folder):
    """Measures a training step on batches read from JPEG records, and one on a batch that is ready."""
    from data import records
    from nets import nets_factory

    family = nets_factory.find_network(config.model).preprocessing_name
    dataset, split = _opened(config) or (_photograph_records(config, folder), "train")
    batches = records.training_batches(
        dataset, split, _preprocess(family, config.image_size), config.batch_size, config.seed
    )
    setup, step, ready = _training_step(config, config.model, dataset.num_classes, config.batch_size, config.image_size)

    def start():
        iterator = iter(batches)
        return lambda: step(*next(iterator))

    rates = _run(config, {"records": start, "ready": lambda: lambda: step(*ready)})
    ratio = rounds.compare("time of a step on records over one on a ready batch", rates["ready"], rates["records"])
    setup = {**setup, "from": str(config.dataset_dir or "made"), "preprocessing": family}
    return Measured("step", setup, environment.usable_cores(), rates, (ratio,))


MEASURES = {"jpeg": measure_jpeg, "cifar": measure_cifar, "step": measure_step}


def _run(config, contestants):
    return rounds.run_rounds(
        contestants, config.rounds, config.seconds, config.burn_in_seconds, on_rate=rounds.print_rate
    )


def _peers(config):
    return {name: input_contestants.PEERS[name] for name in grid.chosen("peers", config.peers, input_contestants.PEERS)}


def _training_step(config, model_name, num_classes, batch_size, image_size):
    """(setup, step, ready): `step` trains on a batch and returns its size; `ready` is a batch in memory."""
    import numpy as np
    import tensorflow as tf

    from nets import nets_factory
    from training import devices
    from training.optimizers import make_momentum
    from training.step import TrainStep

    precision = devices.resolve_precision(config.precision)
    model = nets_factory.create_model(model_name, num_classes, compute_dtype=precision, seed=config.seed)
    trainable = {name: value for name, value in model.variables_by_name.items() if value.trainable}
    # A rate that barely moves the weights: values that overflow would take a different time.
    train_step = TrainStep(model, make_momentum(trainable), learning_rate_fn=lambda step: tf.constant(1e-6))

    def step(images, labels):
        make_step(lambda: train_step.step(images, labels))()
        return len(labels)

    random = np.random.default_rng(config.seed)
    images = tf.constant(random.standard_normal([batch_size, image_size, image_size, 3], dtype=np.float32))
    labels = tf.constant(random.integers(num_classes, size=batch_size), tf.int32)
    setup = {"model": model_name, "precision": precision, "batch_size": batch_size, "image_size": image_size}
    return setup, step, (images, labels)


def _preprocess(family, image_size):
    from data import preprocessing

    return preprocessing.Preprocess(preprocessing.find_family(family), image_size, image_size, is_training=True)


def _opened(config):
    """(data set, split) that the flags name; None without --dataset_dir."""
    from data import catalog

    if config.dataset_dir is None:
        return None
    dataset = catalog.open_dataset(directory=config.dataset_dir)
    return dataset, config.split or dataset.row.train_split


def _photographs(config):
    """Yields the JPEGs of the data set or, without one, of `made_images`."""
    import tensorflow as tf

    from data import parsing

    if config.dataset_dir is None:
        yield from made_images.make_photographs(config.num_images, config.seed)
        return
    dataset, split = _opened(config)
    for record in tf.data.TFRecordDataset(dataset.files(split)):
        encoded = parsing.parse(record)[0].numpy()
        if not encoded.startswith(b"\xff\xd8\xff"):
            raise UserError(f"{config.dataset_dir} holds images that are not JPEGs, which jpeg is about")
        yield encoded


def _photograph_records(config, folder):
    return made_images.write_dataset(folder / "made", "photographs", _photographs(config), "jpg", _CLASS_NAMES)


def _write_files(folder, images):
    folder.mkdir()
    paths = []
    for number, encoded in enumerate(images):
        paths.append(folder / f"{number:06d}.jpg")
        paths[-1].write_bytes(encoded)
    return paths
