import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from data import catalog, parsing, preprocessing, records, sources

SHARDS = (9, 9, 0, 5)
COUNT = 23
# (shuffle_buffer, cached_bytes): in memory, and streamed through a buffer that holds a part of the split.
SOURCES = [(None, 2**20), (5, 2**20), (None, 0), (5, 0)]


def pixel_and_noise(image, seed=None):
    """float32 [2]: the number that the picture shows, and a random number of the seed."""
    noise = 0.0 if seed is None else tf.random.stateless_uniform([], seed)
    return tf.stack([tf.cast(image[0, 0, 0], tf.float32), noise])


def stream(dataset, num_batches, seed=3, batch_size=4, preprocess=pixel_and_noise, **settings):
    """The first batches, as ([batches * batch_size, ...], labels)."""
    batches = records.training_batches(dataset, "train", preprocess, batch_size, seed, **settings)
    images, labels = zip(*batches.take(num_batches).as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize(("shuffle_buffer", "cached_bytes"), SOURCES)
def test_an_epoch_holds_each_record_once_in_an_order_of_its_own(make_dataset, shuffle_buffer, cached_bytes):
    dataset = make_dataset(SHARDS)
    images, labels = stream(dataset, COUNT, shuffle_buffer=shuffle_buffer, cached_bytes=cached_bytes)
    numbers = images[:, 0].astype(int)
    np.testing.assert_array_equal(labels, numbers % 5)
    epochs = numbers.reshape(4, COUNT)
    for epoch in epochs:
        assert sorted(epoch) == list(range(COUNT))
    orders = {tuple(epoch) for epoch in epochs} | {tuple(range(COUNT))}
    assert len(orders) == 5


@pytest.mark.parametrize(("shuffle_buffer", "cached_bytes"), SOURCES)
def test_resuming_gives_the_same_batches_bit_for_bit(make_dataset, shuffle_buffer, cached_bytes):
    dataset = make_dataset(SHARDS)
    settings = {"shuffle_buffer": shuffle_buffer, "cached_bytes": cached_bytes}
    images, labels = stream(dataset, 20, **settings)
    # 4 records a batch, 23 an epoch: within the first epoch, across its end, and far on.
    for first_step in (1, 5, 6, 17):
        resumed_images, resumed_labels = stream(dataset, 20 - first_step, first_step=first_step, **settings)
        np.testing.assert_array_equal(resumed_images, images[4 * first_step :])
        np.testing.assert_array_equal(resumed_labels, labels[4 * first_step :])


@pytest.mark.parametrize("cached_bytes", [2**20, 0])
def test_images_held_decoded_give_the_batches_of_the_records(make_dataset, cached_bytes):
    settings = {"shuffle_buffer": COUNT, "first_step": 3}
    expected = stream(make_dataset(SHARDS), 12, cached_bytes=cached_bytes, **settings)
    held = make_dataset(SHARDS, image_shape=[4, 4, 1])
    images, labels = stream(held, 12, cached_bytes=cached_bytes, **settings)
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_array_equal(labels, expected[1])


def test_a_small_split_of_one_shape_is_decoded_once(make_dataset):
    dataset = make_dataset(SHARDS, image_shape=[4, 4, 1])
    assert isinstance(sources.open_source(dataset, "train", pixel_and_noise, 0, 2**20), sources.HeldImages)
    # 23 images of 4 x 4 x 3; the files are smaller than that by far less than a half.
    small = sources.open_source(dataset, "train", pixel_and_noise, 0, cached_bytes=0)
    assert not small.in_memory
    unknown_shape = sources.open_source(make_dataset(SHARDS), "train", pixel_and_noise, 0, 2**20)
    assert unknown_shape.in_memory and isinstance(unknown_shape, sources.RecordFiles)


def test_an_image_of_another_shape_than_dataset_json_says(make_dataset):
    with pytest.raises(records.DataError, match=r"not of the image_shape \[5, 4, 1\] in .*dataset.json"):
        stream(make_dataset(SHARDS, image_shape=[5, 4, 1]), 1)


def test_boxes_reach_the_preprocessing_that_uses_them(tmp_path, make_dataset):
    dataset = make_dataset((3,))
    # Red grows downwards, green to the right: an output pixel tells where in the picture it comes from.
    rows, columns = np.mgrid[:200, :200]
    encoded = tf.io.encode_png(np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)).numpy()
    boxes = [[], [0.6], [0.2, 0.6]]  # None, one right of the middle and below, that and another.
    with tf.io.TFRecordWriter(dataset.files("train")[0]) as writer:
        for label, lows in enumerate(boxes):
            sides = {"ymin": lows, "xmin": lows, "ymax": [x + 0.2 for x in lows], "xmax": [x + 0.2 for x in lows]}
            features = {"image/encoded": encoded, "image/class/label": label}
            features |= {f"image/object/bbox/{side}": values for side, values in sides.items()}
            writer.write(parsing.serialize(features))
    family = dataclasses.replace(preprocessing.PREPROCESSING["resnet"], area_range=(0.05, 0.1), min_object_covered=0.9)
    preprocess = preprocessing.Preprocess(family, 8, 8, is_training=True)
    images, labels = stream(dataset, 60, preprocess=preprocess, batch_size=3)
    tops = {label: images[labels == label][:, 0, 0, 0] + 123.68 for label in range(3)}
    # A side of at most sqrt(0.1 / 0.75) = 0.365 that holds 90 % of the box begins between 0.415 and 0.62.
    found = tops[1][tops[1] > 0]  # Where a hundred tries find none, the whole picture is taken.
    assert len(found) > 0.8 * len(tops[1])
    assert found.min() > 0.41 * 200 and found.max() < 0.63 * 200
    found = tops[2][tops[2] > 0]
    assert found.min() < 0.23 * 200 and found.max() > 0.41 * 200  # Either box.
    assert tops[0].max() == 0  # No part so small holds 90 % of the whole, which is then taken.


def test_resuming_repeats_the_augmentation_of_the_embedded_digits():
    dataset = catalog.open_dataset()
    train = preprocessing.get_preprocessing("digits", is_training=True)
    preprocess = functools.partial(train, output_height=16, output_width=16)
    images, labels = stream(dataset, 8, batch_size=256, preprocess=preprocess)
    resumed_images, resumed_labels = stream(dataset, 2, batch_size=256, preprocess=preprocess, first_step=6)
    np.testing.assert_array_equal(resumed_images, images[6 * 256 :])
    np.testing.assert_array_equal(resumed_labels, labels[6 * 256 :])


def test_the_stream_is_no_function_of_threads_or_the_global_seed(make_dataset):
    dataset = make_dataset(SHARDS)
    for cached_bytes in (0, 2**20):
        tf.random.set_seed(1)
        one = stream(dataset, 12, num_private_threads=1, cached_bytes=cached_bytes)
        tf.random.set_seed(2)
        other = stream(dataset, 12, num_private_threads=4, cached_bytes=cached_bytes)
        np.testing.assert_array_equal(one[0], other[0])


def test_no_tuner_is_left_to_wait_for_when_a_stream_is_dropped(make_dataset):
    dataset = make_dataset(SHARDS)
    training = records.training_batches(dataset, "train", pixel_and_noise, 4, 3, num_private_threads=20)
    evaluation = records.evaluation_batches(dataset, "train", pixel_and_noise, 4, num_private_threads=20)
    for batches in (training, evaluation):
        options = batches.options()
        assert (options.autotune.enabled, options.autotune.initial_parallelism) == (False, 20)
        assert options.threading.private_threadpool_size == 20


@pytest.mark.parametrize("cached_bytes", [0, 2**20])
def test_another_seed_gives_another_order_and_other_augmentation(make_dataset, cached_bytes):
    dataset = make_dataset(SHARDS)
    one, other = (stream(dataset, 5, seed=seed, cached_bytes=cached_bytes)[0] for seed in (3, 4))
    assert (one[:, 0] != other[:, 0]).any()
    assert not set(one[:, 1]) & set(other[:, 1])


def test_every_image_of_every_epoch_gets_a_seed_of_its_own(make_dataset):
    images, _ = stream(make_dataset(SHARDS), COUNT)
    assert len(np.unique(images[:, 1])) == 4 * COUNT


def test_batches_have_a_static_shape_and_int32_labels(make_dataset):
    batches = records.training_batches(make_dataset(), "train", pixel_and_noise, 4, seed=0)
    assert batches.element_spec[0] == tf.TensorSpec([4, 2], tf.float32)
    assert batches.element_spec[1] == tf.TensorSpec([4], tf.int32)


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 23), (10, [10, 10, 3]), (100, [23])])
def test_evaluation_scores_every_record_once_in_file_order(make_dataset, batch_size, sizes):
    batches = records.evaluation_batches(make_dataset(SHARDS), "train", pixel_and_noise, batch_size)
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    assert [len(batch) for batch in labels] == sizes
    np.testing.assert_array_equal(np.concatenate(images)[:, 0], np.arange(23))
    np.testing.assert_array_equal(np.concatenate(labels), np.arange(23) % 5)


def test_labels_offset_is_taken_off(tmp_path, make_dataset):
    dataset = make_dataset(num_classes=5)
    examples = [(tf.io.encode_png(np.zeros([4, 4, 1], np.uint8)).numpy(), "png", 1 + i % 4, 4, 4) for i in range(10)]
    records.write_examples(dataset.files("train")[0], examples)
    batches = records.evaluation_batches(dataset, "train", pixel_and_noise, 10, labels_offset=1)
    np.testing.assert_array_equal(next(batches.as_numpy_iterator())[1], [0, 1, 2, 3, 0, 1, 2, 3, 0, 1])


def _slim_example(encoded, image_format, label):
    """The fewest keys that research/slim's own readers ask for."""
    feature = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
        "image/format": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image_format])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "image/class/text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a name"])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def test_records_of_research_slim_read_as_they_are(make_dataset):
    dataset = make_dataset([4])
    grey = np.full([6, 7, 1], 90, np.uint8)
    colour = np.tile(np.uint8([10, 120, 230]), [6, 7, 1])
    with_alpha = np.concatenate([colour, np.full([6, 7, 1], 50, np.uint8)], axis=-1)
    with tf.io.TFRecordWriter(dataset.files("train")[0]) as writer:
        writer.write(_slim_example(tf.io.encode_jpeg(grey).numpy(), b"jpg", 0))
        writer.write(_slim_example(tf.io.encode_jpeg(colour, quality=100).numpy(), b"JPEG", 1))
        writer.write(_slim_example(tf.io.encode_png(with_alpha).numpy(), b"png", 2))
        writer.write(_slim_example(tf.io.encode_png(colour).numpy(), b"jpg", 3))
    as_is = functools.partial(tf.cast, dtype=tf.float32)
    images = next(records.evaluation_batches(dataset, "train", as_is, 4).as_numpy_iterator())[0]
    assert images.shape == (4, 6, 7, 3)
    np.testing.assert_allclose(images[0], np.tile(grey, 3), atol=2)
    np.testing.assert_allclose(images[1], colour, atol=3)
    np.testing.assert_array_equal(images[2], colour)
    np.testing.assert_array_equal(images[3], colour)


def test_written_records_hold_slims_keys(make_dataset):
    path = make_dataset().files("train")[0]
    record = next(tf.data.TFRecordDataset(path).skip(7).as_numpy_iterator())
    feature = tf.train.Example.FromString(record).features.feature
    assert sorted(feature) == [
        "image/class/label", "image/encoded", "image/format", "image/height", "image/width"
    ]  # fmt: skip
    assert feature["image/class/label"].int64_list.value == [2]
    assert feature["image/format"].bytes_list.value == [b"png"]
    assert feature["image/height"].int64_list.value == [4]


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "a.tfrecord"
    assert records.write_examples(path, [(b"image", "png", 0, 1, 1)]) == 1
    before = path.read_bytes()

    def broken():
        yield b"other", "png", 1, 1, 1
        raise RuntimeError("the source broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        records.write_examples(path, broken())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tfrecord"]
