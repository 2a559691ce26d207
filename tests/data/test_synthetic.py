import numpy as np
import pytest

from command_line import UserError
from data import preprocessing, records, statistics, synthetic


def preprocess(is_training=True):
    return preprocessing.Preprocess(preprocessing.PREPROCESSING["lenet"], 8, 8, is_training)


def test_images_and_labels_are_uniform_and_follow_from_the_seed():
    drawn = synthetic.SyntheticImages(num_images=200, num_classes=7, image_size=16, seed=3)
    pixels, labels = (value.numpy() for value in drawn.draw("train", channels=3))
    assert pixels.shape == (200, 16, 16, 3) and pixels.dtype == np.uint8
    assert set(labels) == set(range(7))
    assert pixels.mean() == pytest.approx(127.5, abs=1)
    assert pixels.std() == pytest.approx(73.9, abs=1)  # (256 ** 2 - 1) / 12, and the root of it.
    again, _ = drawn.draw("train", channels=3)
    np.testing.assert_array_equal(again, pixels)
    other, _ = drawn.draw("test", channels=3)
    assert (other.numpy() != pixels).any()
    assert drawn.draw("train", channels=1)[0].shape == [200, 16, 16, 1]


def test_a_drawn_data_set_is_read_like_any_other():
    dataset = synthetic.synthetic_dataset(num_images=10, num_classes=3, image_size=8)
    batches = records.evaluation_batches(dataset, "test", preprocess(is_training=False), 4)
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    assert [len(batch) for batch in labels] == [4, 4, 2]
    pixels, expected = dataset.synthetic.draw("test", 3)
    np.testing.assert_array_equal(np.concatenate(labels), expected)
    np.testing.assert_array_equal(np.concatenate(images), (pixels.numpy().astype(float) - 128) / 128)

    epoch = records.training_batches(dataset, "train", preprocess(), 5, seed=1)
    seen = np.concatenate([images for images, _ in epoch.take(2).as_numpy_iterator()])
    drawn = (dataset.synthetic.draw("train", 3)[0].numpy().astype(float) - 128) / 128
    assert sorted(image.tobytes() for image in seen) == sorted(image.astype(np.float32).tobytes() for image in drawn)


def test_labels_offset_leaves_out_the_background():
    dataset = synthetic.synthetic_dataset(num_images=40, num_classes=3, image_size=8)
    for batches in (
        records.training_batches(dataset, "train", preprocess(True), 40, seed=0, labels_offset=1).take(1),
        records.evaluation_batches(dataset, "test", preprocess(False), 40, labels_offset=1),
    ):
        assert {int(label) for _, labels in batches for label in labels} == {0, 1}
    with pytest.raises(UserError, match="labels_offset is 3, expected 0 to 2"):
        records.evaluation_batches(dataset, "test", preprocess(False), 4, labels_offset=3)


@pytest.mark.parametrize(
    ("sizes", "text"), [((0, 3, 8), "0 images"), ((5, 0, 8), "0 classes"), ((5, 3, 0), "0 pixels")]
)
def test_an_impossible_size(sizes, text):
    with pytest.raises(UserError, match=text):
        synthetic.synthetic_dataset(*sizes)


def test_statistics_of_hand_worked_pixels(make_dataset):
    # Pictures of 0 to 9, each number on 4 x 4 pixels of every channel: mean 4.5, variance (10 ** 2 - 1) / 12.
    dataset = make_dataset((4, 6))
    means, deviations = statistics.channel_statistics(dataset, "train")
    assert means == (4.5, 4.5, 4.5)
    assert deviations == pytest.approx((8.25**0.5,) * 3, rel=1e-12)
    assert statistics.channel_statistics(dataset, "train", channels=1)[0] == (4.5,)


def test_a_split_that_is_not_there_is_one_line():
    dataset = synthetic.synthetic_dataset(num_images=4, num_classes=3, image_size=8)
    with pytest.raises(UserError, match="data set 'synthetic' has no split 'validation': it has train, test$"):
        dataset.num_records("validation")
