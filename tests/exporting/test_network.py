"""What goes into every format: preprocessing inside, and names."""

import exporting_toys
import numpy as np
import pytest
import tensorflow as tf

from data import catalog, preprocessing, records
from exporting import pictures
from exporting.network import ExportedNetwork
from nets import nets_factory
from nets.folding import FoldedModel


@pytest.fixture(scope="module")
def folded():
    return FoldedModel(nets_factory.create_model("resnet_cifar_v1_20", 3))


def network(folded, family, size, input_format="NHWC"):
    preprocess = preprocessing.Preprocess(preprocessing.find_family(family), size, size)
    return preprocess, ExportedNetwork(folded, preprocess, size, "float32", input_format, [], {"label_names": None})


@pytest.mark.parametrize("family", preprocessing.PREPROCESSING)
def test_image_files_are_preprocessed_as_for_evaluation_bit_for_bit(folded, family, toy_dir):
    preprocess, exported = network(folded, family, 24)
    dataset = catalog.open_dataset("toy", toy_dir)
    images, labels = next(iter(records.evaluation_batches(dataset, "test", preprocess, exporting_toys.TEST_COUNT)))
    encoded = [file for file, *_ in exporting_toys.examples(exporting_toys.TEST_COUNT, 0)]
    inside = tf.function(exported.preprocess_bytes, autograph=False)(tf.constant(encoded))
    assert inside.dtype == tf.float32 and inside.shape == [exporting_toys.TEST_COUNT, 24, 24, 3]
    np.testing.assert_array_equal(inside, images)
    # What the exporter compares on is the same, too.
    batches = list(pictures.from_records(dataset, "test", preprocess, 0, 100, 4))
    assert [len(batch.images) for batch in batches] == [1, 3, 4, 1]
    np.testing.assert_array_equal(np.concatenate([batch.images for batch in batches]), images)
    assert np.concatenate([batch.encoded for batch in batches]).tolist() == encoded
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), labels)


def test_decoded_images_in_both_layouts(folded):
    pixels = np.random.default_rng(0).integers(0, 256, [2, 33, 40, 3], np.uint8)
    preprocess, exported = network(folded, "inception", 24)
    expected = np.stack(list(tf.data.Dataset.from_tensor_slices(pixels).map(preprocess).as_numpy_iterator()))
    np.testing.assert_array_equal(exported.preprocess_pixels(tf.constant(pixels)), expected)
    _, exported = network(folded, "inception", 24, "NCHW")
    by_channel = tf.constant(exported.in_layout(pixels))
    assert by_channel.shape == [2, 3, 33, 40]
    np.testing.assert_array_equal(exported.preprocess_pixels(by_channel), exported.in_layout(expected))


def test_generated_pictures_are_the_same_each_time_and_not_flat():
    preprocess = preprocessing.Preprocess(preprocessing.find_family("digits"), 16, 16)
    first, second = (list(pictures.generated(preprocess, 16)) for _ in range(2))
    assert [len(batch.images) for batch in first] == [1, 3, 4]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        assert one.labels is None and one.images.std(axis=(1, 2, 3)).min() > 0.1


def test_a_network_without_classes_gives_features():
    model = nets_factory.create_model("resnet_cifar_v1_20", None)
    exported = ExportedNetwork(FoldedModel(model), None, 16, "float32", "NHWC", ["block3"], {"label_names": None})
    assert exported.description["outputs"] == {
        "features": {"shape": [None, 1, 1, 64], "dtype": "float32"},
        "block3": {"shape": [None, 4, 4, 64], "dtype": "float32"},
    }
    assert list(exported.texts()) == ["export.json"]
