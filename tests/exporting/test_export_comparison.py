"""What the comparison takes for a difference."""

import numpy as np
import pytest

from command_line import UserError
from exporting.comparison import Comparison


def outputs(logits, **changes):
    logits = np.array(logits, np.float32)
    exponentials = np.exp(logits)
    made = {
        "logits": logits,
        "probabilities": exponentials / exponentials.sum(axis=-1, keepdims=True),
        "classes": logits.argmax(axis=-1),
    }
    return made | changes


def test_figures_by_hand():
    comparison = Comparison(0.1)
    comparison.add(outputs([[1, 4]]), outputs([[1.5, 4]]), labels=np.array([1]))
    comparison.add(outputs([[-8, 0], [2, 1], [1, 2]]), outputs([[-8, 0], [2, 3], [1, 2]]), labels=np.array([1, 0, 0]))
    figures = comparison.result()
    # The largest difference is 2 (1 -> 3), the largest value 8; of the labels 1, 1, 0, 0 three and two are met.
    assert figures["outputs"]["logits"] == {"largest_difference": 2.0, "relative": 0.25}
    assert (figures["images"], figures["batch_sizes"], figures["classes_that_differ"]) == (4, [1, 3], 1)
    assert figures["top_1"] == {"checkpoint": 0.75, "export": 0.5}
    with pytest.raises(UserError, match=r"logits by 0\.25 of its largest value, tolerance 0\.1; nothing was written"):
        comparison.judge()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_over_every_tolerance(wrong):
    comparison = Comparison(1e9)
    expected = outputs([[1, 4]], block1=np.ones([1, 2, 2, 3], np.float32))
    actual = outputs([[1, 4]], block1=np.ones([1, 2, 2, 3], np.float32))
    actual["block1"][0, 1, 1, 2] = wrong
    comparison.add(expected, actual, None)
    comparison.add(expected, expected, None)
    with pytest.raises(UserError, match="block1"):
        comparison.judge()


def test_equal_outputs_pass_and_unlabelled_ones_have_no_accuracy():
    comparison = Comparison(0.0)
    comparison.add(outputs([[1, 4]]), outputs([[1, 4]]), None)
    comparison.judge()
    assert comparison.result()["top_1"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": np.array([[0.5, 0.5]], np.float32)}, "probabilities are not the softmax"),
        ({"probabilities": np.array([[0.05, 0.95]], np.float64)}, "probabilities are not the softmax"),
        ({"classes": np.array([0])}, "classes are not the most probable"),
        ({"logits": np.zeros([1, 3], np.float32)}, r"the export gives .*\(1, 3\).*, expected"),
        ({"block1": np.zeros([1])}, "the export gives .*block1"),
    ],
)
def test_outputs_that_do_not_fit_each_other(changes, message):
    with pytest.raises(UserError, match=message):
        Comparison(1e9).add(outputs([[1, 4]]), outputs([[1, 4]]) | changes, None)
