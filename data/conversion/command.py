"""What `download_and_convert_data.py` does with its flags."""

import functools

from command_line import UserError
from data import catalog
from data.conversion import convert as conversion
from data.conversion import on_beam, on_this_machine
from data.conversion.converters import CONVERTERS, Request
from data.conversion.reading import named
from data.conversion.shards import UNFINISHED

CONTACT_SHEET = "contact_sheet.png"


def convert(config, show=print):
    """Converts as the flags say; returns the dict that --json writes.

    Raises:
      UserError: As the converters do, and for flags that do not fit together.
    """
    if config.dataset_name not in CONVERTERS:
        raise UserError(f"unknown dataset_name {config.dataset_name!r}: known are {', '.join(CONVERTERS)}")
    if config.dataset_dir is None:
        raise UserError("give --dataset_dir, the folder that the records go to")
    converter = CONVERTERS[config.dataset_name]
    if not converter.splits_by_flags and (config.validation_fraction is not None or config.seed):
        raise UserError(f"{config.dataset_name} has splits of its own: leave out --validation_fraction and --seed")
    directory = config.dataset_dir
    plain = config.source is None and config.num_shards is None and config.shard_range is None
    if plain and not converter.splits_by_flags and conversion.is_finished(directory, config.dataset_name):
        show(f"{directory} holds {config.dataset_name} already, which is left as it is; --verify={directory} checks it")
        return summary(directory)
    shard_range = _parse_range(config.shard_range)
    write_shards = on_this_machine.write_shards
    if config.beam_options is not None:
        write_shards = functools.partial(on_beam.write_shards, on_beam.parse_options(config.beam_options))
    request = Request(
        dataset_dir=directory,
        scratch_dir=directory / UNFINISHED / "source",
        source=config.source,
        validation_fraction=config.validation_fraction,
        seed=config.seed,
        num_shards=config.num_shards,
    )
    try:
        plan = converter.plan(request)
        for note in plan.notes:
            show(note)
        result = conversion.convert(plan, directory, config.on_error, shard_range, write_shards)
    finally:
        conversion.remove_unfinished(directory)
    _report(result, plan, directory, show)
    return {**(summary(directory) if not result.num_missing else {}), **result._asdict()}


def verify(config, show=print):
    """Checks the data set that --verify names, and draws its contact sheet; returns the report, a dict.

    Raises:
      UserError: For the first fault found.
    """
    from data.conversion import verification
    from data.conversion.contact_sheet import write_contact_sheet

    report, examples = verification.verify(config.verify)
    for line in verification.describe(report):
        show(line)
    first = next(iter(report["splits"].values()))
    sheet = config.verify / CONTACT_SHEET
    try:
        write_contact_sheet(sheet, report["class_names"], first["class_counts"], examples)
        examples_are = f"examples in {sheet}"
    except UserError as error:  # The records may be on a disk that is read only.
        examples_are = f"no sheet of examples: {error}"
    count = sum(facts["count"] for facts in report["splits"].values())
    show(
        f"{config.verify}: all {count} records are well, read in {report['seconds']:.1f} s "
        f"({report['images_per_second']:.0f} images/s); {examples_are}"
    )
    return report


def summary(directory):
    """The contents of a finished data set, as a dict."""
    dataset = catalog.open_dataset(directory=directory)
    return {"name": dataset.name, "splits": dataset.splits, "num_classes": dataset.num_classes}


def _report(result, plan, directory, show):
    if result.num_written:
        rate = result.images / max(result.seconds, 1e-9)
        show(
            f"wrote {result.num_written} of {len(plan.shards)} shards, {result.images} images in "
            f"{result.seconds:.1f} s, {rate:.0f} images/s"
            + (f"; {result.num_kept} shards were there already" if result.num_kept else "")
        )
    if result.num_missing:
        show(
            f"{result.num_missing} of {len(plan.shards)} shards are still to be written, by this command without a "
            f"--shard_range or with others"
        )
        return
    dataset = catalog.open_dataset(directory=directory)
    splits = ", ".join(f"{count} {split}" for split, count in dataset.splits.items())
    if result.was_there and not result.num_written:
        show(f"{directory} holds this data set already, which is left as it is; --verify={directory} checks it")
    if result.bad_files:
        names = named(name for name, _ in result.bad_files)
        listed = directory / conversion.BAD_FILES
        show(f"left out {len(result.bad_files)} files that do not decode: {names}; reasons in {listed}")
    show(f"{directory}: {splits} images of {dataset.num_classes} classes")


def _parse_range(text):
    if text is None:
        return None
    first, colon, end = text.partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (first, end)):
        raise UserError(f"shard_range {text!r} is not A:B, such as 0:16")
    return int(first or 0), int(end) if end else None
