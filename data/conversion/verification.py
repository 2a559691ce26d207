"""Reads a data set back: decodes and counts every record, and compares them with dataset.json and labels.txt."""

import collections
import heapq
import itertools
import json
import time

import numpy as np
import tensorflow as tf

from command_line import UserError
from data import catalog, parsing
from data.conversion.progress import Progress
from data.conversion.reading import read_text
from data.parsing import HEIGHT_KEY, WIDTH_KEY
from data.preprocessing import images
from data.record_errors import DataError, count_fault, explain_errors, find_fault

PERCENTILES = (0, 5, 50, 95, 100)
EXAMPLES_PER_CLASS = 10
_DUPLICATES_LISTED = 20
_BATCH = 64
# Any two numbers will do, as long as a digest is the same in every run.
_DIGEST_KEY = (2718, 2818)


def verify(directory):
    """Reads every record of every split.

    Returns:
      (report, examples). The report is a JSON-able dict: `splits`, each with its count, class_counts, percentiles of
      height and width in pixels, bytes and duplicates; `duplicates_across`, the pairs of splits that share images,
      pixel for pixel; images_per_second. The examples are {label: [encoded image]}, a few random images of the first
      split.
    Raises:
      UserError: If a record does not decode, its label or size is wrong, or counts and names do not agree.
    """
    dataset = catalog.open_dataset(directory=directory)
    start = time.monotonic()
    _check_names(dataset)
    splits, digests = {}, {}
    examples = {}
    with Progress("verifying", sum(dataset.splits.values()), "images") as progress:
        for split in dataset.splits:
            found = {} if examples else examples
            splits[split], digests[split] = _scan(dataset, split, found, progress)
    _check_class_counts(dataset, splits)
    seconds = time.monotonic() - start
    report = {
        "name": dataset.name,
        "class_names": list(dataset.class_names),
        "splits": splits,
        "duplicates_across": _duplicates_across(digests),
        "seconds": seconds,
        "images_per_second": sum(dataset.splits.values()) / seconds,
    }
    return report, {label: [encoded for _, _, encoded in sorted(heap)] for label, heap in examples.items()}


def _scan(dataset, split, examples, progress):
    """Returns what `verify` reports on a split, and the digest of each image, [count]; fills `examples` with heaps."""
    columns = collections.defaultdict(list)
    tie = itertools.count()
    with explain_errors(dataset, split):
        for batch in _facts(dataset, split).as_numpy_iterator():
            for name, values in batch.items():
                if name != "encoded":
                    columns[name].append(values)
            for label, digest, encoded in zip(batch["label"], batch["digest"], batch["encoded"], strict=True):
                # The images with the smallest digests are as good as random, and the same in every run.
                heap = examples.setdefault(int(label), [])
                if len(heap) < EXAMPLES_PER_CLASS:
                    heapq.heappush(heap, (-int(digest), next(tie), encoded))
                elif -digest > heap[0][0]:
                    heapq.heapreplace(heap, (-int(digest), next(tie), encoded))
            progress.advance(len(batch["label"]))
    held = {name: np.concatenate(values) for name, values in columns.items()} if columns else None
    count = 0 if held is None else len(held["label"])
    if count != dataset.num_records(split) or held["label"].min() < 0 or held["label"].max() >= dataset.num_classes:
        raise DataError(find_fault(dataset, split) or count_fault(dataset, split, {dataset.file_pattern: count}))
    _check_sizes(dataset, split, held)
    return {
        "count": count,
        "class_counts": np.bincount(held["label"], minlength=dataset.num_classes).tolist(),
        "height": _percentiles(held["height"]),
        "width": _percentiles(held["width"]),
        "bytes": int(held["bytes"].sum()),
        "duplicates": count - len(np.unique(held["digest"])),
    }, held["digest"]


def _facts(dataset, split):
    """Batches of dicts: label, digest, height, width, stored_height, stored_width, bytes, encoded; [batch] each."""

    def facts(record):
        encoded, label, boxes = parsing.parse(record, with_boxes=True)
        within = tf.debugging.Assert(tf.reduce_all((boxes >= 0.0) & (boxes <= 1.0)), ["bounding box"])
        with tf.control_dependencies([within]):
            image = images.decode(encoded, channels=3)
        stored = tf.io.parse_single_example(
            record, {key: tf.io.FixedLenFeature([], tf.int64, default_value=-1) for key in (HEIGHT_KEY, WIDTH_KEY)}
        )
        shape = tf.shape(image)
        return {
            "label": label,
            "digest": tf.strings.to_hash_bucket_strong(tf.io.serialize_tensor(image), 2**63 - 1, _DIGEST_KEY),
            "height": shape[0],
            "width": shape[1],
            "stored_height": stored[HEIGHT_KEY],
            "stored_width": stored[WIDTH_KEY],
            "bytes": tf.strings.length(encoded),
            "encoded": encoded,
        }

    records = tf.data.TFRecordDataset(dataset.files(split))
    decoded = records.map(facts, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return decoded.batch(_BATCH).prefetch(1)


def _check_sizes(dataset, split, held):
    for axis in ("height", "width"):
        stored = held[f"stored_{axis}"]
        (wrong,) = np.nonzero((stored != held[axis]) & (stored != -1))
        if len(wrong):
            first = wrong[0]
            raise UserError(
                f"record {first} of split {split!r} (counted from 0 over its files) says {axis} {stored[first]}, but "
                f"its image has {held[axis][first]}; {len(wrong)} records are so: convert them again"
            )
    if dataset.image_shape:
        height, width, _ = dataset.image_shape
        (wrong,) = np.nonzero((held["height"] != height) | (held["width"] != width))
        if len(wrong):
            raise UserError(
                f"record {wrong[0]} of split {split!r} (counted from 0 over its files) is not of the {height}x{width} "
                f"pixels that {catalog.DESCRIPTION_FILE} promises for all; {len(wrong)} records are so"
            )


def _check_names(dataset):
    """labels.txt, which Slim's readers use, has to agree with dataset.json, which ours use."""
    path = dataset.directory / "labels.txt"
    if not path.exists():
        return
    lines = [line for line in read_text(path).split("\n") if line]
    expected = [f"{label}:{name}" for label, name in enumerate(dataset.class_names)]
    if lines != expected:
        pairs = itertools.zip_longest(lines, expected, fillvalue="no such line")
        found, wanted = next(pair for pair in pairs if pair[0] != pair[1])
        raise UserError(
            f"{path} and {catalog.DESCRIPTION_FILE} name other classes, the first {found!r} and {wanted!r}: mend one"
        )


def _check_class_counts(dataset, splits):
    path = dataset.directory / catalog.DESCRIPTION_FILE
    promised = json.loads(path.read_text(encoding="utf-8")).get("class_counts", {})
    for split, counts in promised.items():
        if split in splits and splits[split]["class_counts"] != counts:
            pairs = zip(dataset.class_names, splits[split]["class_counts"], counts, strict=False)
            name, found, expected = next((pair for pair in pairs if pair[1] != pair[2]), ("?", "?", "?"))
            raise UserError(
                f"split {split!r} has {found} images of class {name!r}, {path} says {expected}: convert it again"
            )


def _duplicates_across(digests):
    pairs = []
    for first, second in itertools.combinations(digests, 2):
        both, in_first, in_second = np.intersect1d(digests[first], digests[second], return_indices=True)
        if len(both):
            listed = zip(in_first[:_DUPLICATES_LISTED].tolist(), in_second[:_DUPLICATES_LISTED].tolist(), strict=True)
            pairs.append({"splits": [first, second], "images": len(both), "records": [list(pair) for pair in listed]})
    return pairs


def _percentiles(values):
    found = np.percentile(values, PERCENTILES).tolist()
    return {str(percent): round(value) for percent, value in zip(PERCENTILES, found, strict=True)}


def describe(report):
    """Lines of text of a report: counts, the histogram of labels, sizes, duplicates."""
    lines = []
    for split, facts in report["splits"].items():
        lines.append(f"{split}: {facts['count']} images decode, {facts['bytes'] / 2**20:.1f} MiB")
        for axis in ("height", "width"):
            sizes = ", ".join(f"{percent} % {value}" for percent, value in facts[axis].items())
            lines.append(f"  {axis} in pixels, percentiles: {sizes}")
        if facts["duplicates"]:
            lines.append(f"  {facts['duplicates']} images are copies, pixel for pixel, of others in the split")
    for pair in report["duplicates_across"]:
        first, second = pair["splits"]
        at = ", ".join(f"{a} and {b}" for a, b in pair["records"][:5])
        lines.append(f"{pair['images']} images are in both {first} and {second}, pixel for pixel: records {at} ...")
    return lines + list(_histogram(report))


def _histogram(report):
    counts = {split: facts["class_counts"] for split, facts in report["splits"].items()}
    width = max(len(name) for name in report["class_names"])
    most = max(map(max, counts.values()))
    yield "label  " + "class".ljust(width) + "".join(f"  {split:>10}" for split in counts)
    for label, name in enumerate(report["class_names"]):
        row = [values[label] for values in counts.values()]
        yield (
            f"{label:>5}  {name.ljust(width)}"
            + "".join(f"  {n:>10}" for n in row)
            + "  "
            + "#" * (-(-row[0] * 30 // most))
        )
