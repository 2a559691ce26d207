"""Makes data/digits, the embedded data set: 1,797 handwritten digits of 8x8 pixels, as TFRecords with Slim's
keys.

    python data/make_digits.py                             # with scikit-learn installed, which holds the source
    python data/make_digits.py --source digits.csv.gz      # or from that file of scikit-learn

The source is the test part of UCI's Optical Recognition of Handwritten Digits: on each line 64 grey values of
0..16 and a class. The split is a plain permutation of the lines by numpy.random.RandomState(SEED); the last 360
are the test split. It is not stratified, and the 13 writers occur in both splits. With the same build of zlib,
running this again gives the same files, byte for byte.
"""

import dataclasses
import gzip
import importlib.util
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import command_line
from command_line import UserError

SEED = 0
SIDE = 8
SPLITS = {"train": 1437, "test": 360}
CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FILE_PATTERN = "digits_{split}.tfrecord"
SOURCE = "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"
LICENCE = "CC BY 4.0"
LICENCE_LINK = "https://creativecommons.org/licenses/by/4.0/"
CREDIT = (
    "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, 1998, UCI Machine Learning "
    "Repository, https://doi.org/10.24432/C50P49"
)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class MakeDigitsConfig:
    source: Path | None = None
    """scikit-learn's digits.csv.gz; if not given, that of the installed scikit-learn."""
    output_dir: Path = Path(__file__).resolve().parent / "digits"
    """Folder to write the files to."""


def main(config):
    """Writes the files and prints their size."""
    source = config.source or installed_source()
    make_digits(source, config.output_dir)
    size = sum(path.stat().st_size for path in config.output_dir.iterdir())
    print(f"{config.output_dir}: {SPLITS['train']} + {SPLITS['test']} records, {size} bytes in all")


def make_digits(source, output_dir):
    """Writes the records of both splits, labels.txt, dataset.json and NOTICE.

    Raises:
      UserError: If `source` is not the file of 1,797 digits.
    """
    from data import records

    greys, labels = read_source(source)
    order = np.random.RandomState(SEED).permutation(len(labels))
    output_dir.mkdir(parents=True, exist_ok=True)
    for split, chosen in (("train", order[: SPLITS["train"]]), ("test", order[SPLITS["train"] :])):
        examples = ((encode_png(greys_to_pixels(greys[i])), "png", int(labels[i]), SIDE, SIDE) for i in chosen)
        records.write_examples(output_dir / FILE_PATTERN.format(split=split), examples)
    lines = "".join(f"{label}:{name}\n" for label, name in enumerate(CLASS_NAMES))
    (output_dir / "labels.txt").write_text(lines, encoding="utf-8")
    (output_dir / "dataset.json").write_text(json.dumps(description(), indent=2) + "\n", encoding="utf-8")
    (output_dir / "NOTICE").write_text(notice(), encoding="utf-8")


def installed_source():
    """Path of digits.csv.gz in the installed scikit-learn, which need not be importable."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None:
        raise UserError("scikit-learn is not installed: pip install scikit-learn, or give --source=digits.csv.gz")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


def read_source(path):
    """Returns greys uint8 [1797, 8, 8] in 0..16 and labels uint8 [1797]."""
    try:
        with gzip.open(path, "rt", encoding="ascii") as lines:
            table = np.loadtxt(lines, delimiter=",")
    except (gzip.BadGzipFile, ValueError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not scikit-learn's digits.csv.gz ({error})") from None
    total = sum(SPLITS.values())
    expected_shape = (total, SIDE * SIDE + 1)
    if table.shape != expected_shape or table.min() < 0 or table.max() > 16:
        raise UserError(
            f"{path} holds a table of {table.shape} with values to {table.max()}, expected {expected_shape} "
            f"and 16: it is not scikit-learn's digits.csv.gz"
        )
    table = table.astype(np.uint8)
    return table[:, :-1].reshape(total, SIDE, SIDE), table[:, -1]


def greys_to_pixels(greys):
    """Scales 0..16 to 0..255, black to white; (pixel + 15) // 16 undoes it exactly."""
    return (greys.astype(np.int32) * 255 // 16).astype(np.uint8)


def encode_png(pixels):
    """A PNG file of a uint8 [height, width] image: three chunks, unfiltered, which suits 8x8 best."""
    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return _PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def description():
    """What dataset.json holds."""
    return {
        "name": "digits",
        "splits": SPLITS,
        "class_names": list(CLASS_NAMES),
        "image_shape": [SIDE, SIDE, 1],
        "file_pattern": FILE_PATTERN,
        "source": SOURCE,
        "licence": LICENCE,
        "licence_link": LICENCE_LINK,
        "credit": CREDIT,
        "split_seed": SEED,
    }


def notice():
    """The text of NOTICE: source, licence and changes, as CC BY asks for."""
    return (
        "The images in this directory are the test part of\n\n"
        f"  {CREDIT}\n  {SOURCE}\n\n"
        f"used under {LICENCE}, {LICENCE_LINK}\n\n"
        "Changes: greys of 0..16 became 8-bit PNG files (grey * 255 // 16), split at random into 1,437 for\n"
        "training and 360 for testing. The rest of this repository has its own licence.\n"
    )


if __name__ == "__main__":
    command_line.run(main, MakeDigitsConfig)
