"""Converts a checkpoint of ours to another library's file: what `convert_weights.py --target_format` runs."""

import datetime
import pathlib
import shutil
import tempfile

from command_line import UserError, first_line


def export_weights(config, show=lambda text: None):
    """Writes a checkpoint of ours in another library's format.

    Args:
      config: A convert_weights.ConvertWeightsConfig with a target_format.
      show: Called with lines about what is read and written.

    Returns:
      A dict: format, checkpoint, model_name, files with their SHA-256, date, and the differences that --verify found
      (None without).

    Raises:
      UserError: If the checkpoint or a flag is bad, the library has no network that computes the same function, or
        verification finds a difference beyond the tolerance; nothing is written then.
    """
    from nets import checkpoints, nets_factory
    from weights import foreign, formats, mapping, places, verification

    library = formats.FORMATS[config.target_format]
    output = pathlib.Path(config.output)
    _check(config, library, output)
    model, description = nets_factory.load_model(config.source, data_format="NHWC")
    structure = places.structure_of(model.settings["model_name"])
    preprocessing = dict(description["preprocessing"])
    preprocessing["image_size"] = preprocessing["image_size"] or model.default_image_size
    library.check_target(structure, model.settings, preprocessing["image_size"])
    reverse = library.reverse_channels(structure, preprocessing["name"])
    tensors = mapping.from_ours(library, structure, model, reverse)

    result = {
        "format": config.target_format,
        "checkpoint": checkpoints.find(config.source),
        "model_name": structure.model_name,
        "date": datetime.date.today().isoformat(),
        "verification": None,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=checkpoints.UNFINISHED, dir=output.parent) as folder:
        part = pathlib.Path(folder) / output.name
        _check_room(part.parent, tensors, output)
        _write(library, part, output, structure, tensors, model.num_classes, preprocessing)
        if config.verify:
            source = library.read(part, use_moving_averages=False)
            result["verification"] = verification.compare(
                library, structure, source, model, preprocessing, config.tolerance
            )
            show(verification.describe(result["verification"]))
        result["files"] = _move(pathlib.Path(folder), output.parent)
    usual = library.preprocessing(structure, foreign.Foreign({}, [], {}))[0]
    if preprocessing["name"] != usual:
        show(f"note: this network's preprocessing is {preprocessing['name']!r}, the library's own is like {usual!r}")
    show(f"wrote {output}")
    return result


def _check_room(folder, tensors, output):
    """Raises a UserError if the disk is too full: HDF5, which Keras writes, may crash the process on a full disk."""
    needed = sum(value.nbytes for value in tensors.values()) + 2**20
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{output} could not be written: it takes {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free; make "
            "room, or name another place"
        )


def _write(library, part, output, *arguments):
    try:
        library.write(part, *arguments)
    except UserError:
        raise
    except Exception as error:  # A full disk is an error of another class in each library.
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{output} could not be written: {reason}; make room, or name another place") from error


def _check(config, library, output):
    """Raises a UserError for flags that do not fit an export."""
    imports_only = ("model_name", "labels", "labels_offset", "preprocessing_name", "image_size")
    given = [f"--{flag}" for flag in imports_only if getattr(config, flag) is not None]
    if given or config.use_moving_averages is not None:
        flags = ", ".join(given) or "--use_moving_averages"
        raise UserError(f"{flags} does not go with --target_format: the model.json of the checkpoint says it")
    if library.SUFFIXES and output.suffix not in library.SUFFIXES:
        raise UserError(f"--output {output} is none of {config.target_format}'s files: {', '.join(library.SUFFIXES)}")
    if (output.exists() or output.with_name(f"{output.name}.index").exists()) and not config.overwrite:
        raise UserError(f"--output {output} exists; give another file, or --overwrite")
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; give a file in it")


def _move(folder, target):
    """Moves the files of a folder into another, a checkpoint's index last; returns their SHA-256 by name."""
    from weights import foreign

    sums = {}
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix == ".index", path.name)):
        sums[path.name] = foreign.sha256(path)
        path.replace(target / path.name)
    return sums
