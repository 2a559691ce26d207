"""The worst mistakes of an evaluation, by hand."""

import concurrent.futures
import queue

import numpy as np
import tensorflow as tf

from training import mistakes
from training.evaluation import Predictions


def batch(labels, predicted, cross_entropy, images=None):
    count = len(labels)
    if images is None:
        images = np.zeros([count, 2, 2, 3], np.float32)
    return Predictions(
        labels=np.array(labels, np.int32),
        top_5=np.array([[best, 9] for best in predicted], np.int32),
        probability=np.full(count, 0.5, np.float32),
        cross_entropy=np.array(cross_entropy, np.float32),
        images=tf.constant(images),
    )


def records(worst):
    return [mistake.record for mistake in worst.worst()]


def test_the_highest_cross_entropies_of_wrong_answers_are_kept():
    worst = mistakes.Mistakes(most=3)
    # Record 0 is right, with a cross-entropy as high as can be.
    worst.add(batch([1, 1, 1], [1, 2, 3], [9.0, 2.0, 3.0]))
    assert records(worst) == [2, 1]
    worst.add(batch([1, 1, 1], [1, 2, 0], [0.1, 3.0, 1.0]))
    # Of equal ones the earlier first.
    assert records(worst) == [2, 4, 1]
    worst.add(batch([0, 0], [1, 2], [2.0, 4.0]))
    assert records(worst) == [7, 2, 4]
    first = worst.worst()[0]
    assert (first.label, first.predicted, first.probability, first.cross_entropy) == (0, 2, 0.5, 4.0)


def test_no_mistakes():
    worst = mistakes.Mistakes()
    worst.add(batch([1, 2], [1, 2], [0.1, 0.2]))
    assert worst.worst() == []


def test_a_picture_has_the_full_range_in_colour_and_a_size_to_look_at():
    images = np.zeros([2, 2, 2, 3], np.float32)
    images[0, 0, 0] = (-2.0, 0.0, 2.0)
    worst = mistakes.Mistakes()
    worst.add(batch([0, 0], [1, 1], [2.0, 1.0], images))
    picture, blank = (mistake.picture for mistake in worst.worst())
    assert picture[0, 0].tolist() == [0, 128, 255] and picture[1, 1].tolist() == [128] * 3
    assert blank.max() == 0  # An image of one colour.
    grey = mistakes.Mistakes()
    grey.add(batch([0], [1], [2.0], np.linspace(0, 1, 320 * 224).reshape(1, 320, 224, 1)))
    assert grey.worst()[0].picture.shape == (160, 112, 3)


class Turns:
    """Two workers, each in a thread of its own, that sum as workers.Workers do."""

    count = 2

    def __init__(self, index, told):
        self.index, self._told = index, told

    def sum(self, arrays):
        mine, theirs = self._told[self.index], self._told[1 - self.index]
        mine.put(arrays)
        return [one + other for one, other in zip(arrays, theirs.get(), strict=True)]


def test_workers_that_take_turns_keep_what_one_process_keeps():
    random = np.random.default_rng(0)
    batches = [
        batch([0] * 3, random.integers(0, 3, 3), random.permutation(9)[:3] / 2, random.random([3, 2, 2, 3]))
        for _ in range(5)
    ]
    alone = mistakes.Mistakes(most=4)
    told = queue.SimpleQueue(), queue.SimpleQueue()
    both = [mistakes.Mistakes(4, Turns(index, told), 3 * index, turns=2) for index in range(2)]
    for number, one in enumerate(batches):
        alone.add(one)
        both[number % 2].add(one)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = list(pool.map(mistakes.Mistakes.worst, both))
    assert len(alone.worst()) == 4
    for result in results:
        for ours, theirs in zip(result, alone.worst(), strict=True):
            assert ours[:-1] == theirs[:-1]
            np.testing.assert_array_equal(ours.picture, theirs.picture)


def test_workers_without_mistakes():
    told = queue.SimpleQueue(), queue.SimpleQueue()
    both = [mistakes.Mistakes(4, Turns(index, told), 3 * index, turns=2) for index in range(2)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert list(pool.map(mistakes.Mistakes.worst, both)) == [[], []]


def test_a_file_gives_back_what_was_written(tmp_path):
    worst = mistakes.Mistakes()
    worst.add(batch([1, 1], [2, 0], [3.0, 2.0], np.float32(np.random.default_rng(0).normal(size=[2, 4, 4, 3]))))
    mistakes.write(tmp_path, 20, "test", [[3, 1], [0, 2]], worst.worst())
    read = mistakes.read(tmp_path)
    assert (read["step"], read["split"], read["confusion_matrix"].tolist()) == (20, "test", [[3, 1], [0, 2]])
    for ours, theirs in zip(read["mistakes"], worst.worst(), strict=True):
        assert ours[:-1] == theirs[:-1]
        np.testing.assert_array_equal(ours.picture, theirs.picture)
    assert [path.name for path in tmp_path.iterdir()] == [mistakes.FILE]
    mistakes.write(tmp_path, 21, "test", [[3, 0], [0, 3]], [])
    assert mistakes.read(tmp_path)["mistakes"] == []
