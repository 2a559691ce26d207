"""Exports a checkpoint for other programs and compares the export with it: what `export_model.py` runs."""

import contextlib
import errno
import os
import sys

import tensorflow as tf

import command_line
from command_line import UserError
from data import catalog, preprocessing
from data.conversion.progress import Progress
from exporting import comparison, formats, pictures
from exporting.destination import Destination
from exporting.network import ExportedNetwork
from exporting.runtime import Runtime
from nets import checkpoints, nets_factory
from nets.folding import FoldedModel


def export(config, show=lambda text: None):
    """Exports a checkpoint.

    Args:
      config: An ExportConfig.
      show: Called with lines about what is exported and calibrated on what.

    Returns:
      A JSON-able dict: checkpoint, model_name, format, precision, output, bytes, runtime, input, outputs, signatures,
      data (name and split, or None), calibration_images, and the figures of `Comparison.result` as comparison.

    Raises:
      UserError: If a flag, the checkpoint or the data is bad, a library is missing, or the export differs too much;
        nothing new appears under the output's name then.
    """
    form = formats.find_format(config.format, config.precision)
    destination = Destination(config.output, form.SUFFIXES, config.overwrite)
    command_line.check_at_least(config, num_images=0, batch_size=1, eval_image_size=1, tolerance=0)
    prefix, model, description = _load(config.checkpoint_path)
    dataset, split = _find_data(config, model, description)
    size = config.eval_image_size or description["preprocessing"]["image_size"] or model.default_image_size
    preprocess = preprocessing.Preprocess(preprocessing.find_family(description["preprocessing"]), size, size)
    batches, count = _batches(config, dataset, split, preprocess, description["labels_offset"], size)
    network = _network(config, form, prefix, model, description, preprocess, size)
    show(
        f"{model.name} from {prefix} as {config.format}, {config.precision}, norms folded\n"
        f"in   {_describe_tensor('images', network.description['input'])}, preprocessed ({config.input_format}, "
        f"{description['preprocessing']['name']})\n"
        + "\n".join(f"out  {_describe_tensor(*item)}" for item in network.description["outputs"].items())
        + f"\n{form.NOTE}"
    )
    tolerance = comparison.TOLERANCES[config.precision] if config.tolerance is None else config.tolerance
    with destination.writing() as path:
        calibration = None
        if config.precision == "int8":
            images = pictures.for_calibration(
                dataset, preprocess, description["labels_offset"], config.num_calibration_images
            )
            calibration = network.in_layout(images)
            show(f"calibrated on {len(calibration)} images of split {dataset.row.train_split} of {dataset.name}")
        with command_line.stderr_kept_for_errors(), contextlib.redirect_stdout(sys.stderr):
            _write(config, form, network, path, calibration)
        with Runtime(config.format, path) as runtime:
            with Progress("comparing", count, "images") as progress:
                compared = comparison.compare(
                    model, network, runtime, form.SIGNATURES, batches, tolerance, progress.advance
                )
            version = runtime.version
        compared.judge()
    return {
        "checkpoint": str(prefix),
        "model_name": model.name,
        "format": config.format,
        "precision": config.precision,
        "output": str(config.output),
        "bytes": destination.size(),
        "runtime": version,
        "input": network.description["input"],
        "outputs": network.description["outputs"],
        "signatures": ["serving_default", *form.SIGNATURES],
        "data": {"name": dataset.name, "split": split} if dataset and config.num_images else None,
        "calibration_images": None if calibration is None else len(calibration),
        "comparison": compared.result(),
    }


def describe(result):
    """A result of `export` as lines for people to read."""
    figures = result["comparison"]
    data = result["data"]
    source = f"images of split {data['split']} of {data['name']}" if data else "generated pictures"
    sizes = ", ".join(map(str, figures["batch_sizes"]))
    lines = [f"compared in {result['runtime']} on {figures['images']} {source}, batches of {sizes}"]
    for name, output in figures["outputs"].items():
        lines.append(
            f"  {name:<16} largest difference {output['largest_difference']:.3g}, "
            f"{output['relative']:.3g} of the largest value"
        )
    if figures["classes_that_differ"] is not None:
        lines.append(f"  {'classes':<16} {figures['classes_that_differ']} of {figures['images']} differ")
    if figures["top_1"]:
        ours, exports = figures["top_1"]["checkpoint"], figures["top_1"]["export"]
        lines.append(f"top-1 {ours:.4f} in the checkpoint, {exports:.4f} in the export: {exports - ours:+.4f}")
    lines.append(f"{result['output']} written, {result['bytes'] / 1e6:.1f} MB")
    return "\n".join(lines)


def _load(path):
    """The prefix, the float32 network and the description of a checkpoint."""
    prefix = checkpoints.find(path)
    # Networks of both data formats compute the same; a CPU convolves NHWC only.
    model, description = nets_factory.load_model(prefix, data_format="NHWC")
    names = description["label_names"]
    if names and len(names) != model.num_classes:
        raise UserError(
            f"{checkpoints.DESCRIPTION} beside {prefix} has {len(names)} label_names, but its network "
            f"{model.num_classes} classes: take another copy of it"
        )
    return prefix, model, description


def _find_data(config, model, description):
    """The data set and split to compare on: (None, None) for generated pictures."""
    needed = config.precision == "int8"
    if not config.num_images and not needed:
        return None, None
    name, directory = config.dataset_name, config.dataset_dir
    if name is None and directory is None:
        training = description["training"]
        name, directory = training.get("dataset_name"), training.get("dataset_dir")
    if name is None and directory is None:
        if needed:
            raise UserError(
                "--precision=int8 is calibrated on records, and the checkpoint names no data set: give --dataset_dir"
            )
        return None, None
    try:
        dataset = catalog.open_dataset(name, directory)
    except UserError as error:
        hint = "" if needed else "; or compare on generated pictures with --num_images=0"
        raise UserError(f"{error}{hint}") from error
    _check_labels(dataset, model, description)
    return dataset, config.dataset_split_name or dataset.row.eval_split


def _check_labels(dataset, model, description):
    """Raises a UserError if the classes of data set and network do not fit; warns if only their names differ."""
    if not model.num_classes:
        return
    offset, names = description["labels_offset"], description["label_names"]
    count = dataset.num_classes - offset
    if count != model.num_classes:
        raise UserError(
            f"the network has {model.num_classes} classes, but data set {dataset.name} {count} (of "
            f"{dataset.num_classes}, labels_offset {offset}); give the data set it was trained on"
        )
    warning = names and dataset.check_class_names(names, offset)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)


def _network(config, form, prefix, model, description, preprocess, size):
    """The network to write, in the compute dtype that the format needs."""
    dtype = form.COMPUTE_DTYPES.get(config.precision, "float32")
    if dtype != "float32":
        model, _ = nets_factory.load_model(prefix, compute_dtype=dtype, data_format="NHWC")
    end_points = [name.strip() for name in config.end_points.split(",") if name.strip()]
    recorded = {key: description[key] for key in ("network", "labels_offset", "label_names")}
    recorded["preprocessing"] = description["preprocessing"] | {"image_size": size}
    says = {"format": config.format, "precision": config.precision, "checkpoint": str(prefix), **recorded}
    return ExportedNetwork(
        FoldedModel(model), preprocess, size, config.precision, config.input_format, end_points, says
    )


def _write(config, form, network, path, calibration):
    try:
        form.write(network, path, calibration)
    except (UserError, OSError):
        raise
    except Exception as error:  # Converters raise errors of every class.
        reason = command_line.first_line(error)
        if isinstance(error, tf.errors.ResourceExhaustedError) or os.strerror(errno.ENOSPC) in str(error):
            raise UserError(
                f"{config.output} could not be written: {reason}; make room, or name another place"
            ) from error
        raise UserError(
            f"--format={config.format} --precision={config.precision}: the converter failed on this network: "
            f"{type(error).__name__}: {reason}; try another format or precision"
        ) from error


def _describe_tensor(name, spec):
    sizes = ", ".join("batch" if size is None else str(size) for size in spec["shape"])
    return f"{name} {spec['dtype']} [{sizes}]"


def _batches(config, dataset, split, preprocess, labels_offset, size):
    """The pictures to compare on, and their number."""
    if dataset is None or not config.num_images:
        return pictures.generated(preprocess, size), pictures.NUM_GENERATED
    count = min(config.num_images, dataset.num_records(split))
    batches = pictures.from_records(dataset, split, preprocess, labels_offset, count, config.batch_size)
    return batches, count
