"""From images to activations on disk: what `extract_features.py` runs."""

import dataclasses
import itertools
import math
import pathlib

from command_line import UserError, check_at_least

# The most that is held in memory, or lost by an interruption: a few minutes of a large network on a CPU.
_BYTES_OF_PART = 64 * 2**20
_IMAGES_OF_PART = 1024


@dataclasses.dataclass(frozen=True)
class ExtractConfig:
    """Writes chosen activations of a network for every image to a file.

    Network, preprocessing and image size come from the model.json beside the checkpoint. The same command again resumes
    an interrupted run. Images that cannot be read are named on stderr and left out; the exit status is then 1.
    """

    checkpoint_path: pathlib.Path | None = None
    """Folder of a run (its newest checkpoint), or one checkpoint."""
    images: tuple[str, ...] = ()
    """Folder with records and their dataset.json, TFRecord files, or images: files, folders, patterns, - for stdin."""
    dataset_split_name: str | None = None
    """Split of the data set; None for its own evaluation split."""
    end_points: str = "global_pool"
    """Names of activations, separated by commas, full (resnet_v2_50/block2) or short (block2)."""
    output: pathlib.Path | None = None
    """File for the features; its ending sets the format: .npz, .tfrecord or .parquet."""
    list_end_points: bool = False
    """List the available names with shape, channels and stride, and exit."""
    overwrite: bool = False
    """Replace an existing output, or an unfinished one that was started with other flags."""
    batch_size: int = 32
    """Images per step."""
    image_size: int | None = None
    """Height and width of the images fed to the network, in pixels."""
    model_name: str | None = None
    """Network, for a checkpoint without model.json, or for --list_end_points without a checkpoint."""
    preprocessing_name: str | None = None
    """Preprocessing, for a checkpoint without model.json."""


def extract(config, show, on_failure):
    """Extracts features.

    Args:
      config: An ExtractConfig.
      show: Called with lines about the progress.
      on_failure: Called with the name and the reason for each image that cannot be read.

    Returns:
      The numbers of images in the file and left out.

    Raises:
      UserError: If a flag, the checkpoint or the records are bad, or they differ from those of the run to resume.
    """
    import tensorflow as tf

    from data.conversion.progress import Progress
    from inference import feature_files, network, sources
    from inference.batches import read_batches

    _check(config)
    feature_files.check_output(config.output)
    trained = network.load(config.checkpoint_path, config.model_name, config.preprocessing_name, config.image_size)
    names = split_names(config.end_points)
    extractor = trained.model.feature_extractor(names)
    source = sources.open_source(config.images, config.dataset_split_name)
    shapes = _shapes(extractor, trained)
    plan = _plan(config, trained, source, names)
    with feature_files.Parts(config.output, plan, config.overwrite) as parts:
        for failure in parts.failures():
            on_failure(*failure)
        batches_of_part = _batches_of_part(shapes, config.batch_size)
        done = len(parts.paths) * batches_of_part * config.batch_size
        if done:
            show(f"going on behind the first {done if source.count is None else min(done, source.count)} images")
        batches = read_batches(source.items(done), trained, config.batch_size)
        with Progress("extracting", source.count, "images") as progress:
            progress.advance(done)
            while first := next(batches, None):
                part = feature_files.Part(shapes, source.labelled)
                for batch in itertools.chain([first], itertools.islice(batches, batches_of_part - 1)):
                    for failure in batch.failures:
                        on_failure(*failure)
                    part.add(batch, extractor(tf.constant(batch.images)) if batch.items else {})
                    progress.advance(len(batch.items) + len(batch.failures))
                parts.add(part)
        failed = len(parts.failures())
        if not parts.count():
            parts.drop()
            raise UserError(f"no image of {', '.join(config.images)} could be read, so {config.output} is not written")
        count = parts.finish(config.output, shapes, source.labelled)
        return count, failed


def list_end_points(config):
    """Lists the end points that can be extracted.

    Args:
      config: An ExtractConfig with a checkpoint_path or a model_name.

    Returns:
      Rows (name, shape, channels, stride): the name without the network's scope, the shape of one image's activations,
      the channels, and input size over output size, or None if no spatial positions are left.

    Raises:
      UserError: If the checkpoint or the network is unknown.
    """
    from inference import network
    from nets import nets_factory, receptive_field

    check_at_least(config, image_size=1)
    if config.checkpoint_path:
        _, description = network.describe(config.checkpoint_path, config.model_name)
        settings = dict(description["network"])
        recorded_size = description["preprocessing"].get("image_size")
    elif config.model_name:
        row = nets_factory.find_network(config.model_name)
        settings = {"model_name": config.model_name, "num_classes": row.default_num_classes}
        recorded_size = None
    else:
        raise UserError("--list_end_points needs --checkpoint_path or --model_name")
    row = nets_factory.find_network(settings["model_name"])
    size = config.image_size or recorded_size or row.default_image_size
    traced = receptive_field.trace(image_size=size, **settings)
    rows = []
    for name, tensor in traced.end_points.items():
        shape = tuple(tensor.shape[1:])
        field = traced.fields.get(tensor.name)
        rows.append((name.removeprefix(f"{settings['model_name']}/"), shape, shape[-1], field and field.stride))
    return rows


def split_names(end_points):
    """The names in "block2,global_pool".

    Raises:
      UserError: If there is none, or a name is repeated.
    """
    names = [name.strip() for name in end_points.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise UserError(f"--end_points is {end_points!r}, expected different names apart by commas: block2,global_pool")
    return names


def _check(config):
    for flag in ("checkpoint_path", "images", "output"):
        if not getattr(config, flag):
            raise UserError(f"--{flag} is missing; give --checkpoint_path, --images and --output, or --list_end_points")
    check_at_least(config, batch_size=1)


def _plan(config, trained, source, names):
    """What the features depend on: a run is resumed only if this is unchanged."""
    index = pathlib.Path(f"{trained.checkpoint}.index")
    file = index if index.exists() else pathlib.Path(trained.checkpoint)
    status = file.stat()
    return {
        "checkpoint_path": f"{trained.checkpoint} ({status.st_size} bytes, {status.st_mtime_ns})",
        "images": f"{' '.join(config.images)} ({len(source.files)} files, {source.digest()})",
        "dataset_split_name": config.dataset_split_name,
        "end_points": ",".join(names),
        "batch_size": config.batch_size,
        "image_size": trained.image_size,
        "model_name": config.model_name,
        "preprocessing_name": config.preprocessing_name,
    }


def _shapes(extractor, trained):
    import tensorflow as tf

    images = tf.TensorSpec([None, trained.image_size, trained.image_size, trained.channels], tf.float32)
    outputs = extractor.get_concrete_function(images).structured_outputs
    return {name: tuple(output.shape[1:]) for name, output in outputs.items()}


def _batches_of_part(shapes, batch_size):
    bytes_of_batch = sum(4 * math.prod(shape) for shape in shapes.values()) * batch_size
    return max(1, min(_BYTES_OF_PART // bytes_of_batch, _IMAGES_OF_PART // batch_size))
