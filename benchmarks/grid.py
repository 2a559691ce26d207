"""What is to be timed: every combination of the configurations that the flags name."""

import dataclasses
import fnmatch
import itertools

from benchmarks.engines import ENGINES, check_engine
from benchmarks.results import PASSES
from benchmarks.timing import check_step_counts
from command_line import UserError

PRECISIONS = ("float32", "bfloat16", "float16", "auto")
# These engines run what `exporting` writes: the folded inference form.
_EXPORTING = ("onnxruntime", "openvino")


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A network, its input, how it is computed, and how long it is timed.

    Attributes:
      image_size: Height and width in pixels.
      passes: Keys of PASSES, in their order.
      forward_mode: inference, or training: norms in the forward pass use batch statistics and update their averages.
      folded: Whether the forward pass is that of `nets.folding`.
      num_batches, burn_in, seconds: As in `timing.time_steps`.
      intra_op_threads, inter_op_threads: 0 if the engine chooses.
    """

    model: str
    engine: str
    precision: str
    batch_size: int
    image_size: int
    num_classes: int
    passes: tuple[str, ...] = tuple(PASSES)[:2]
    forward_mode: str = "inference"
    folded: bool = False
    dataset_name: str | None = None
    dataset_dir: str | None = None
    seed: int = 0
    num_batches: int = 100
    burn_in: int = 10
    seconds: float | None = None
    intra_op_threads: int = 0
    inter_op_threads: int = 0


def expand(config):
    """Every combination of what the comma-separated lists of a TimingConfig name, networks first, passes last.

    Returns:
      A list of Configuration, each once.

    Raises:
      UserError: If a name or number is bad, or an engine is missing, lacks a precision or computes none of the passes.
    """
    from nets import nets_factory
    from training import devices

    check_step_counts(config.num_batches, config.burn_in, config.seconds)
    _check(config)
    shared = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(Configuration)
        if field.name not in ("model", "engine", "precision", "batch_size", "image_size", "passes", "folded")
    }
    if config.dataset_dir is not None or config.dataset_name not in (None, "synthetic"):
        from data import catalog

        dataset = catalog.open_dataset(config.dataset_name, config.dataset_dir)
        # As rows of a file name them, both for what ran and for what failed.
        shared |= {"dataset_name": dataset.name, "num_classes": dataset.num_classes}
    models = _networks(config.model)
    precisions = [devices.resolve_precision(name) for name in chosen("precision", config.precision, PRECISIONS)]
    engines = chosen("engine", config.engine, ENGINES)
    for engine, precision in itertools.product(engines, precisions):
        # Before anything is timed.
        check_engine(engine, precision)
    batch_sizes = _numbers("batch_size", config.batch_size)
    sizes = [None] if config.image_size is None else _numbers("image_size", config.image_size)
    found = [
        Configuration(
            model=model,
            engine=engine,
            precision=precision,
            batch_size=batch_size,
            image_size=size or nets_factory.find_network(model).default_image_size,
            passes=_passes(config, engine),
            folded=config.folded or engine in _EXPORTING,
            **shared,
        )
        for model in models
        for size in sizes
        for batch_size in batch_sizes
        for precision in precisions
        for engine in engines
    ]
    return list(dict.fromkeys(found))


def chosen(flag, text, known):
    """The names in a comma-separated list, each once.

    Raises:
      UserError: If one is unknown, or the list is empty.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise UserError(f"--{flag} has {name!r}; known are {', '.join(known)}")
    if not names:
        raise UserError(f"--{flag} is empty; known are {', '.join(known)}")
    return names


def _networks(text):
    """The networks in a comma-separated list of names and wildcards."""
    from nets import nets_factory

    found = []
    for name in text.split(","):
        name = name.strip()
        matches = fnmatch.filter(nets_factory.NETWORKS, name)
        if not matches:
            nets_factory.find_network(name)  # Its error lists the known names.
        found.extend(matches)
    return list(dict.fromkeys(found))


def _passes(config, engine):
    names = chosen("pass", config.passes, (*PASSES, "all"))
    if "all" in names:
        names = PASSES
    trains = engine == "tensorflow" and not config.folded
    passes = tuple(name for name in PASSES if name in names and (trains or name == "forward"))
    if not passes:
        which = "a folded network" if config.folded else f"--engine {engine}"
        raise UserError(f"{which} computes the forward pass only, but --pass is {config.passes}")
    return passes


def _numbers(flag, text):
    """The integers, at least 1, in a comma-separated list."""
    numbers = []
    for part in str(text).split(","):
        try:
            number = int(part)
        except ValueError:
            raise UserError(f"--{flag} is {text}; expected whole numbers, apart by commas") from None
        if number < 1:
            raise UserError(f"--{flag} is {number}; it must be at least 1")
        numbers.append(number)
    return numbers


def _check(config):
    for name, least in (("num_classes", 1), ("rounds", 1), ("intra_op_threads", 0), ("inter_op_threads", 0)):
        value = getattr(config, name)
        if value < least:
            raise UserError(f"--{name} is {value}; it must be at least {least}")
    exporting = [name for name in chosen("engine", config.engine, ENGINES) if name in _EXPORTING]
    if config.forward_mode == "training" and (config.folded or exporting):
        what = exporting[0] if exporting else "a folded network"
        raise UserError(f"--forward_mode training needs norms, which {what} has not; leave one of them out")
