"""Prepares a pass of a network in several systems, compares results, and times in alternation."""

import dataclasses
import statistics

import numpy as np

from benchmarks import disturbance, peers, rounds
from benchmarks.grid import Configuration
from command_line import UserError

OURS = "slim_resnets"
FOLDED = "slim_resnets_folded"
PEERS = tuple(name for name in peers.CONTESTANTS if name != OURS)
PASSES = ("forward", "train_step")
# Largest difference, relative to the largest value, that comes from summing in another order.
TOLERANCES = {"float32": 1e-4, "bfloat16": 1e-1}


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far a first result is from ours.

    Attributes:
      difference: The largest difference, relative to our largest value.
      top_1: Part of the images with the same most probable class; None for a cross-entropy.
    """

    difference: float
    top_1: float | None


@dataclasses.dataclass(frozen=True)
class Measured:
    """The results of all contestants in a pass.

    Attributes:
      setup: What was measured, JSON-able.
      rates: {contestant: [images per second of each round]}.
      ratios: A tuple of rounds.Ratio, as `compare_ours` returns it.
      agreements: {contestant: Agreement}, for those that were compared.
      missing: {contestant: why it was left out}.
      others_share: Part of the cores' time that other processes took during the rounds; None if not known.
    """

    pass_name: str
    setup: dict
    rates: dict
    ratios: tuple
    agreements: dict
    missing: dict
    others_share: float | None

    def to_json(self):
        """Returns a JSON-able dict with every rate."""
        return {
            **self.setup,
            "pass": self.pass_name,
            "images_per_second": self.rates,
            "median_images_per_second": {name: statistics.median(rates) for name, rates in self.rates.items()},
            "ratios": [dataclasses.asdict(ratio) for ratio in self.ratios],
            "agreements": {name: dataclasses.asdict(one) for name, one in self.agreements.items()},
            "missing": self.missing,
            "others_share": self.others_share,
        }


def measure(config, pass_name, names):
    """Times a pass in this zoo and in other systems, and prints the rate of each turn as it ends.

    Args:
      config: A PeersConfig.
      pass_name: A name of PASSES.
      names: Some of PEERS.

    Returns:
      A Measured.

    Raises:
      UserError: If there is no such network.
    """
    task = make_task(config, pass_name)
    contestants, missing = {}, {}
    for name in (OURS, *names):
        try:
            contestants[name] = peers.CONTESTANTS[name](task)
        except (ImportError, UserError) as error:
            missing[name] = str(error)
        except Exception as error:
            if name == OURS:
                raise
            missing[name] = describe_failure(error)
    print(f"# {pass_name}: first steps of {', '.join(contestants)}", flush=True)
    agreements = _compare(contestants, missing, TOLERANCES[config.precision])
    watch = disturbance.Watch()
    rates = rounds.run_rounds(
        {name: _turn(contestant.step, config.batch_size) for name, contestant in contestants.items()},
        config.rounds,
        config.seconds,
        config.burn_in_seconds,
        on_rate=rounds.print_rate,
    )
    others_share = watch.others_share()
    configuration = task.configuration
    shown = ("model", "precision", "batch_size", "image_size", "num_classes", "intra_op_threads")
    setup = {name: getattr(configuration, name) for name in shown}
    return Measured(pass_name, setup, rates, compare_ours(rates), agreements, missing, others_share)


def compare_ours(rates):
    """Compares this zoo with the others, as it is and, if it took part, folded.

    Args:
      rates: {contestant: [images per second of each round]}, including this zoo's own.

    Returns:
      A tuple of rounds.Ratio: ours over each other contestant, then folded over each other system.
    """
    ours = [(OURS, name) for name in rates if name != OURS]
    folded = [(FOLDED, name) for name in rates if name not in (OURS, FOLDED) and FOLDED in rates]
    return tuple(rounds.compare(f"{own} over {name}", rates[own], rates[name]) for own, name in ours + folded)


def make_task(config, pass_name):
    """The network, its images and its labels, as a peers.Task."""
    import tensorflow as tf

    from nets import nets_factory

    network = nets_factory.find_network(config.model)
    image_size = config.image_size or network.default_image_size
    padding = {"root_pool_padding": "symmetric"} if "root_pool_padding" in network.function.layout else {}
    model = nets_factory.create_model(config.model, config.num_classes, seed=config.seed, **padding)
    random = np.random.default_rng(config.seed)
    images = random.standard_normal([config.batch_size, image_size, image_size, 3], dtype=np.float32)
    labels = random.integers(config.num_classes, size=config.batch_size)
    configuration = Configuration(
        model=config.model,
        engine="tensorflow",
        precision=config.precision,
        batch_size=config.batch_size,
        image_size=image_size,
        num_classes=config.num_classes,
        passes=(pass_name,),
        intra_op_threads=config.intra_op_threads,
    )
    return peers.Task(model, configuration, tf.constant(images), tf.constant(labels, tf.int32))


def agreement(expected, actual):
    """The Agreement of two results."""
    largest = float(np.abs(expected).max()) or 1.0
    top_1 = None
    if expected.ndim == 2:
        top_1 = float((expected.argmax(axis=-1) == actual.argmax(axis=-1)).mean())
    return Agreement(float(np.abs(actual - expected).max()) / largest, top_1)


def describe_agreement(one):
    """The end of a contestant's line: how far it is from ours; empty for ours."""
    if one is None:
        return ""
    same = "" if one.top_1 is None else f", top-1 the same for {one.top_1:.0%}"
    return f"; differs by {one.difference:.2g} of the largest value{same}"


def describe_failure(error):
    """Why a contestant is left out."""
    return f"failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _compare(contestants, missing, tolerance):
    """Runs each once and compares; removes those that fail or whose result differs."""
    agreements = {}
    expected = contestants[OURS].value(contestants[OURS].step())
    for name in [name for name in contestants if name != OURS]:
        try:
            actual = contestants[name].value(contestants[name].step())
        except Exception as error:  # Compilers raise errors of every class.
            missing[name] = describe_failure(error)
            del contestants[name]
            continue
        one = agreement(expected, actual)
        if one.difference <= tolerance:
            agreements[name] = one
        else:
            missing[name] = f"computes something else{describe_agreement(one)}, tolerance {tolerance:g}"
            del contestants[name]
    return agreements


def _turn(step, batch_size):
    def take_batch():
        step()
        return batch_size

    return lambda: take_batch
