"""The embedded digits against what UCI and scikit-learn publish of them."""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from command_line import UserError
from data import catalog, make_digits

# https://archive.ics.uci.edu/dataset/80: testing set, digits 0 to 9.
CLASS_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
SHA256 = {
    "train": "9c506bb24b98b50f9fc2b2d47a7b9de1139b1973aca8e8445adc1c43eab923a4",
    "test": "4f7b289f02b90730e3f3c86453d6b432459cdb726dd42bcb161648e64fe67510",
}
FIRST_DIGIT = [
    [0, 0, 5, 13, 9, 1, 0, 0],
    [0, 0, 13, 15, 10, 15, 5, 0],
    [0, 3, 15, 2, 0, 11, 8, 0],
    [0, 4, 12, 0, 0, 8, 8, 0],
    [0, 5, 8, 0, 0, 9, 8, 0],
    [0, 4, 11, 0, 1, 12, 7, 0],
    [0, 2, 14, 5, 10, 12, 0, 0],
    [0, 0, 6, 13, 10, 0, 0, 0],
]


def to_greys(pixels):
    return ((pixels.astype(np.int32) + 15) // 16).astype(np.uint8)


@pytest.fixture(scope="module")
def digits():
    """Split -> (greys [count, 8, 8] in 0..16, labels [count]), in file order."""
    dataset = catalog.open_dataset()
    held = {}
    for split in dataset.splits:
        greys, labels = [], []
        for record in tf.data.TFRecordDataset(dataset.files(split)).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            pixels = tf.io.decode_png(feature["image/encoded"].bytes_list.value[0]).numpy()
            assert pixels.shape == (8, 8, 1)
            greys.append(to_greys(pixels[..., 0]))
            labels += feature["image/class/label"].int64_list.value
        held[split] = np.array(greys), np.array(labels)
    return held


def test_description():
    dataset = catalog.open_dataset()
    assert dataset.splits == {"train": 1437, "test": 360}
    assert dataset.class_names[7] == "seven" and dataset.num_classes == 10
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.licence == "CC BY 4.0" and "uci.edu" in dataset.source
    assert (dataset.directory / "labels.txt").read_text().splitlines()[3] == "3:three"
    assert "creativecommons.org/licenses/by/4.0" in (dataset.directory / "NOTICE").read_text()


def test_files_are_those_that_were_checked_in_and_small():
    dataset = catalog.open_dataset()
    for split, digest in SHA256.items():
        (path,) = dataset.files(split)
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest
    assert sum(path.stat().st_size for path in dataset.directory.iterdir()) < 500_000


def test_counts_and_class_histogram_are_ucis(digits):
    labels = np.concatenate([labels for _, labels in digits.values()])
    assert [len(labels) for _, labels in digits.values()] == [1437, 360]
    assert np.bincount(labels).tolist() == CLASS_COUNTS
    assert np.bincount(digits["test"][1]).min() >= 25


def test_pixels_are_ucis(digits):
    greys = np.concatenate([greys for greys, _ in digits.values()])
    assert (greys.min(), greys.max()) == (0, 16)
    assert greys.mean() == pytest.approx(4.884164579855314, abs=1e-12)  # load_digits().data.mean()
    found = [split for split, (images, _) in digits.items() if (images == FIRST_DIGIT).all(axis=(1, 2)).any()]
    assert len(found) == 1


def test_no_image_is_in_both_splits(digits):
    images = {split: {image.tobytes() for image in greys} for split, (greys, _) in digits.items()}
    assert not images["train"] & images["test"]


def test_greys_and_pixels_are_each_others_inverse():
    greys = np.arange(17, dtype=np.uint8)
    pixels = make_digits.greys_to_pixels(greys)
    assert (pixels[0], pixels[8], pixels[16]) == (0, 127, 255)
    np.testing.assert_array_equal(to_greys(pixels), greys)


def test_png_is_read_back_by_tensorflow():
    pixels = np.random.RandomState(0).randint(0, 256, [5, 9]).astype(np.uint8)
    encoded = make_digits.encode_png(pixels)
    np.testing.assert_array_equal(tf.io.decode_png(encoded)[..., 0], pixels)


@pytest.mark.skipif("ng" in zlib.ZLIB_RUNTIME_VERSION, reason="zlib-ng compresses to other bytes")
def test_making_the_digits_again_gives_the_same_files(digits, tmp_path):
    # The records in the order of the source are the source.
    greys, labels = (np.concatenate([held[part] for held in digits.values()]) for part in (0, 1))
    source = np.empty([1797, 65], int)
    order = np.random.RandomState(make_digits.SEED).permutation(1797)
    source[order] = np.concatenate([greys.reshape(-1, 64), labels[:, np.newaxis]], axis=1)
    assert source[0].tolist() == [*np.ravel(FIRST_DIGIT), 0]
    lines = "".join(",".join(map(str, row)) + "\n" for row in source)
    (tmp_path / "digits.csv.gz").write_bytes(gzip.compress(lines.encode()))

    make_digits.make_digits(tmp_path / "digits.csv.gz", tmp_path / "made")
    embedded = catalog.open_dataset().directory
    made = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    assert made == {path.name: path.read_bytes() for path in embedded.iterdir()}


# Named, since a gzip header holds the time: workers that collect a second apart would not agree on the tests' names.
@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"1,2,3\n"), gzip.compress(b"a,b\n"), b"1,2,3\n"],
    ids=["too few columns", "no numbers", "not compressed"],
)
def test_a_source_of_another_kind(tmp_path, content):
    (tmp_path / "other.csv.gz").write_bytes(content)
    with pytest.raises(UserError, match="other.csv.gz .* not scikit-learn's digits.csv.gz"):
        make_digits.make_digits(tmp_path / "other.csv.gz", tmp_path / "made")
