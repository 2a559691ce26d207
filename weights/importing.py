"""Converts a foreign file to a checkpoint of ours: what `convert_weights.py --source_format` runs."""

import datetime
import json
import pathlib
import tempfile

from command_line import UserError, check_at_least

CHECKPOINT = "model.ckpt"


def import_weights(config, show=lambda text: None):
    """Writes a folder with the checkpoint, its state file and model.json.

    Args:
      config: A convert_weights.ConvertWeightsConfig with a source_format.
      show: Called with lines about what is read and written.

    Returns:
      What model.json says under "source": format, path, files with their SHA-256, date, checkpoint with its SHA-256,
      and the differences that --verify found (None without).

    Raises:
      UserError: If a flag or the file is bad, they do not fit each other, or verification finds a difference beyond the
        tolerance; nothing is written then.
    """
    from nets import nets_factory
    from weights import foreign, formats, mapping, verification

    output = pathlib.Path(config.output)
    check_at_least(config, labels_offset=0, image_size=1, tolerance=0)
    _check_output(output, config.overwrite)
    library = formats.FORMATS[config.source_format]
    structure = _structure(config, library)
    source = library.read(pathlib.Path(config.source), config.use_moving_averages)
    foreign.check_finite(source.tensors)
    projections = library.projections(structure)
    settings = library.settings(structure, source)
    preprocessing = _preprocessing(config, library, structure, source)
    reverse = library.reverse_channels(structure, preprocessing["name"])
    values = mapping.to_ours(library, structure, source.tensors, projections, reverse)
    num_classes = mapping.number_of_classes(library, structure, source.tensors, projections)
    offset = config.labels_offset
    if offset is None:
        # Slim's ImageNet records have a background class, label 0, which a network of 1000 classes leaves out.
        offset = 1 if num_classes == 1000 else 0
    names = _label_names(config, num_classes, offset)
    model = nets_factory.create_model(structure.model_name, num_classes, seed=None, **settings)
    mapping.check_shapes(values, model.variables_by_name)
    for name, variable in model.variables_by_name.items():
        variable.assign(values[name])
    show(f"{structure.model_name} with {num_classes or 'no'} classes: {len(values)} variables from {config.source}")
    if source.facts.get("shadows"):
        show("these are the moving averages that training kept; --use_moving_averages=False takes the weights instead")

    result = {
        "format": config.source_format,
        "path": pathlib.Path(config.source).resolve().name,
        "files": {file.name: foreign.sha256(file) for file in source.files},
        "date": datetime.date.today().isoformat(),
        "verification": None,
    }
    if config.verify:
        result["verification"] = verification.compare(
            library, structure, source, model, preprocessing, config.tolerance
        )
        show(verification.describe(result["verification"]))
    description = {
        "network": model.settings,
        "preprocessing": preprocessing,
        "labels_offset": offset,
        "label_names": names,
        "training": {},
        "source": result,
    }
    _write(output, model, description)
    show(f"wrote {output}")
    return result


def _check_output(output, overwrite):
    """Refuses to overwrite anything but an earlier import, and that too without --overwrite."""
    from nets import checkpoints

    if not output.exists():
        return
    if not overwrite:
        raise UserError(f"--output {output} exists; give another folder, or --overwrite")
    if not (output / checkpoints.DESCRIPTION).is_file() or "source" not in checkpoints.read_description(output):
        raise UserError(f"--output {output} is no folder of imported weights, so it is not overwritten; give another")
    ours = (checkpoints.DESCRIPTION, "checkpoint")
    others = sorted(
        path.name for path in output.iterdir() if path.name not in ours and not path.name.startswith(f"{CHECKPOINT}.")
    )
    if others:
        raise UserError(f"--output {output} holds {others[0]} besides, so it is not overwritten; give another folder")


def _structure(config, library):
    """The structure of --model_name.

    Raises:
      UserError: If the flag is missing, or names no network that the format has.
    """
    from weights import places

    if config.model_name not in library.MODEL_NAMES:
        raise UserError(
            f"--model_name is {config.model_name}, expected a network that format {config.source_format} has: "
            f"{', '.join(library.MODEL_NAMES)}"
        )
    return places.structure_of(config.model_name)


def _preprocessing(config, library, structure, source):
    """What model.json records: the format's own preprocessing unless flags name another."""
    from data import preprocessing

    name, numbers, image_size = library.preprocessing(structure, source)
    if config.preprocessing_name not in (None, name):
        name, numbers = config.preprocessing_name, {}
    return preprocessing.from_settings({"name": name, **numbers}).settings(config.image_size or image_size)


def _label_names(config, num_classes, offset):
    """The class names: from --labels, else from the labels.json in the source's folder, else None.

    A file may name a data set's labels, of which the network leaves out the first `offset`.
    """
    path = config.labels
    beside = pathlib.Path(config.source) / "labels.json"
    if path is None and beside.is_file() and num_classes:
        path = beside
    if path is None:
        return None
    names = _read_names(pathlib.Path(path))
    if num_classes and len(names) == num_classes + offset:
        names = names[offset:]
    if len(names) != num_classes:
        raise UserError(
            f"{path} names {len(names)} classes, but the weights have {num_classes}; give the file of these"
        )
    return names


def _read_names(path):
    """Names from a text file, one per line, bare or numbered like Slim's (0:tench), or from a JSON list or object."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Some editors put a byte order mark in front.
        if path.suffix != ".json":
            lines = text.rstrip("\r\n").splitlines()
            numbered = lines and all(line.startswith(f"{number}:") for number, line in enumerate(lines))
            return [line.partition(":")[2] for line in lines] if numbered else lines
        names = json.loads(text)
        if isinstance(names, dict):
            names = [names[str(number)] for number in range(len(names))]
            # Keras' imagenet_class_index.json has pairs of synset and name.
            names = [name[1] if isinstance(name, list) and len(name) == 2 else name for name in names]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("not all names are strings")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"--labels {path} cannot be read ({error}); expected one name a line, a JSON list of names, or a JSON "
            "object of class number (0, 1, ...) -> name, or -> [synset, name] as Keras has it"
        ) from error
    return names


def _write(output, model, description):
    """Writes the folder under a temporary name, then renames it, so that readers never see a partial one."""
    import tensorflow as tf

    from nets import checkpoints
    from weights import foreign

    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=checkpoints.UNFINISHED, dir=output.parent) as folder:
        part = pathlib.Path(folder).resolve() / "new"
        model.save(part / CHECKPOINT)
        tf.compat.v1.train.update_checkpoint_state(str(part), CHECKPOINT, [CHECKPOINT])
        files = sorted(part.glob(f"{CHECKPOINT}.*"))
        description["source"]["checkpoint"] = {file.name: foreign.sha256(file) for file in files}
        checkpoints.write_description(part, description)
        if output.exists():
            output.rename(part.with_name("old"))  # It is deleted with the temporary folder around it.
        part.rename(output)
