"""The evaluator on logits made by hand, and on records."""

import csv
import functools
import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
import training_toys

from command_line import UserError
from data import catalog, preprocessing, records
from nets import nets_factory
from training.evaluation import Evaluator, PredictionsFile, describe
from training.every import Every

# Seven classes. Places of the label among the logits: 1st, 2nd, 5th, 6th, 1st.
LOGITS = [
    [9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    [9.0, 8.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    [9.0, 8.0, 5.0, 7.0, 6.0, 1.0, 0.0],
    [9.0, 8.0, 7.0, 4.0, 6.0, 5.0, 0.0],
    [0.0, 9.0, 2.0, 3.0, 4.0, 5.0, 6.0],
]
LABELS = [0, 1, 2, 3, 1]
NAMES = list("abcdefg")


def batches(logits, labels, batch_size=None):
    size = batch_size or len(labels)
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        yield tf.constant(logits[part], tf.float32), tf.constant(labels[part], tf.int32)


def evaluate(logits, labels, names, batch_size=None):
    return Evaluator(training_toys.LogitsModel()).evaluate(batches(logits, labels, batch_size), names)


def test_metrics_by_hand():
    result = evaluate(LOGITS, LABELS, NAMES)
    assert result["count"] == 5
    assert result["top_1"] == 2 / 5
    assert result["top_5"] == 4 / 5
    each = [math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(LOGITS, LABELS, strict=True)]
    assert result["cross_entropy"] == pytest.approx(sum(each) / 5, rel=1e-6)
    confusion = np.zeros([7, 7], int)
    confusion[0, 0] = confusion[1, 0] = confusion[2, 0] = confusion[3, 0] = confusion[1, 1] = 1
    assert result["confusion_matrix"] == confusion.tolist()
    assert result["per_class"][:5] == [
        {"class_id": 0, "name": "a", "count": 1, "top_1": 1.0},
        {"class_id": 1, "name": "b", "count": 2, "top_1": 0.5},
        {"class_id": 2, "name": "c", "count": 1, "top_1": 0.0},
        {"class_id": 3, "name": "d", "count": 1, "top_1": 0.0},
        {"class_id": 4, "name": "e", "count": 0, "top_1": None},
    ]
    assert json.loads(json.dumps(result)) == result
    assert "5 images" in describe(result) and "top-1 0.4000   top-5 0.8000" in describe(result)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5, 100])
def test_the_result_does_not_depend_on_the_batches(batch_size):
    assert evaluate(LOGITS, LABELS, NAMES, batch_size) == evaluate(LOGITS, LABELS, NAMES)


def test_with_fewer_than_five_classes_every_image_is_in_the_top_5():
    result = evaluate([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0, 1, 0], ["a", "b"])
    assert (result["top_1"], result["top_5"]) == (1 / 3, 1.0)
    assert result["confusion_matrix"] == [[1, 1], [1, 0]]


def test_one_class():
    result = evaluate([[3.0], [-3.0]], [0, 0], ["only"])
    assert (result["top_1"], result["top_5"], result["cross_entropy"]) == (1.0, 1.0, 0.0)


def test_of_equal_logits_the_lower_class_comes_first():
    """A constant network answers the first class; the 1st to 5th of seven are its top five."""
    result = evaluate([[0.0] * 7] * 7, list(range(7)), NAMES)
    assert (result["top_1"], result["top_5"]) == (1 / 7, 5 / 7)
    assert result["cross_entropy"] == pytest.approx(math.log(7), rel=1e-6)
    assert [row[0] for row in result["confusion_matrix"]] == [1] * 7


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
def test_answers_that_are_not_finite_are_an_error(spoilt):
    logits = [list(row) for row in LOGITS]
    logits[1][1] = spoilt
    with pytest.raises(UserError, match="1 of 5 images are not finite"):
        evaluate(logits, LABELS, NAMES, batch_size=2)


def test_no_images_are_an_error():
    with pytest.raises(UserError, match="no images"):
        evaluate([], [], NAMES, batch_size=1)


def test_the_mean_is_exact_over_many_images():
    """A float32 sum of 2**20 terms of about 1e-4 would lose the last digits."""
    count = 2**20
    logits = np.tile(np.float32([[9.0, 0.0]]), [count, 1])
    result = evaluate(logits, np.zeros(count, np.int32), ["a", "b"], batch_size=2**16)
    one = evaluate(logits[:1], [0], ["a", "b"])
    assert result["cross_entropy"] == pytest.approx(one["cross_entropy"], rel=1e-12)


@pytest.fixture(scope="module")
def model():
    return nets_factory.create_model(training_toys.TINY, len(training_toys.CLASS_NAMES))


def record_batches(dataset, batch_size):
    preprocess = functools.partial(
        preprocessing.get_preprocessing("cifar"), output_height=training_toys.SIDE, output_width=training_toys.SIDE
    )
    return records.evaluation_batches(dataset, "test", preprocess, batch_size)


def test_a_network_scores_records_alike_in_any_batches(model, toy_dir):
    dataset = catalog.open_dataset(directory=toy_dir)
    evaluator = Evaluator(model)
    results = [
        evaluator.evaluate(record_batches(dataset, size), dataset.class_names)
        for size in (1, 7, training_toys.TEST_COUNT, 100)
    ]
    for result in results:
        assert result["count"] == training_toys.TEST_COUNT
        # 13 records of classes in turn: 5, 4, 4.
        assert [row["count"] for row in result["per_class"]] == [5, 4, 4]
        assert result["confusion_matrix"] == results[0]["confusion_matrix"]
        assert (result["top_1"], result["top_5"]) == (results[0]["top_1"], 1.0)
        # Convolutions add up in another order for another batch size.
        assert result["cross_entropy"] == pytest.approx(results[0]["cross_entropy"], rel=1e-5)


def test_evaluation_changes_no_variable(model, toy_dir):
    dataset = catalog.open_dataset(directory=toy_dir)
    before = {name: value.numpy() for name, value in model.variables_by_name.items()}
    Evaluator(model).evaluate(record_batches(dataset, 4), dataset.class_names)
    training_toys.assert_same_values({n: v.numpy() for n, v in model.variables_by_name.items()}, before)


def write_predictions(path, logits, labels, batch_size):
    with PredictionsFile(path, itertools.repeat("")) as file:
        Evaluator(training_toys.LogitsModel()).evaluate(batches(logits, labels, batch_size), NAMES, file.add)
    with open(path, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.parametrize("batch_size", [2, 5])
def test_predictions_list_every_record_in_order(tmp_path, batch_size):
    rows = write_predictions(tmp_path / "predictions.csv", LOGITS, LABELS, batch_size)
    assert [row["record"] for row in rows] == list("01234")
    assert [row["label"] for row in rows] == list("01231")
    assert [row["predicted"] for row in rows] == list("00001")
    assert [row["top_5"] for row in rows] == ["0 6 5 4 3", "0 1 6 5 4", "0 1 3 4 2", "0 1 2 4 5", "1 6 5 4 3"]
    for row, logits in zip(rows, LOGITS, strict=True):
        probability = math.exp(max(logits)) / sum(map(math.exp, logits))
        assert float(row["probability"]) == pytest.approx(probability, rel=1e-6)


def test_predictions_make_their_folder(tmp_path):
    assert len(write_predictions(tmp_path / "a" / "b" / "predictions.csv", LOGITS, LABELS, 5)) == 5


def test_a_probability_is_written_so_that_it_reads_back_exactly(tmp_path):
    logits = np.random.default_rng(0).normal(size=[50, 7]).astype(np.float32)
    rows = write_predictions(tmp_path / "predictions.csv", logits, np.zeros(50, np.int32), 50)
    expected = tf.reduce_max(tf.nn.softmax(logits), axis=-1).numpy()
    np.testing.assert_array_equal(np.float32([float(row["probability"]) for row in rows]), expected)


def test_an_error_leaves_the_earlier_file_and_no_other(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text("earlier", encoding="utf-8")
    with pytest.raises(UserError), PredictionsFile(path, itertools.repeat("")) as file:
        file.add(next(Evaluator(training_toys.LogitsModel()).predictions(batches(LOGITS, LABELS))))
        raise UserError("bad record")
    assert path.read_text(encoding="utf-8") == "earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["predictions.csv"]


def test_a_name_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    path = tmp_path / "predictions.csv"
    path.mkdir()
    with pytest.raises(OSError, match="predictions.csv"), PredictionsFile(path, iter([])):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["predictions.csv"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"steps": None, "epochs": 1.0}, [3, 5, 8, 10, 11]),  # An epoch is 2.5 steps, the run 11.
        ({"steps": None, "epochs": 0.1}, list(range(1, 12))),
        ({"steps": None, "epochs": 2.0}, [5, 10, 11]),
        ({"steps": None, "epochs": 0.0}, [11]),
        ({"steps": None, "epochs": None}, [11]),
        ({"steps": 4, "epochs": 1.0}, [4, 8, 11]),
    ],
    ids=["each", "more_than_each_step", "every_other", "at_the_end", "never_before_the_end", "steps"],
)
def test_what_is_due_when_an_epoch_is_over_is_due_at_the_end_too(flags, expected):
    every = Every(**flags, steps_per_epoch=Fraction(5, 2), total_steps=11)
    assert [step for step in range(1, 12) if every.is_due(step)] == expected
    for step in range(11):
        assert every.next(step) == min(due for due in expected if due > step)


def test_a_float16_network_too_large_for_it_is_scored_in_float32():
    """As one that has just begun to train, whose moving variances are far below its variances."""
    model = nets_factory.create_model(training_toys.TINY, 3, compute_dtype="float16")
    for name, variable in model.variables_by_name.items():
        if name.endswith("moving_variance"):
            variable.assign(tf.fill(variable.shape, 1e-4))
    images = np.random.default_rng(0).normal(size=[4, 8, 8, 3]).astype(np.float32)
    batch = [(tf.constant(images), tf.constant([0, 1, 2, 0]))]
    with pytest.raises(UserError, match="of 4 images are not finite: .* too large for --precision=float16"):
        Evaluator(model).evaluate(batch, "abc")
    rescued = Evaluator(model, (None,), precision="float32").evaluate(batch, "abc")
    wide = nets_factory.create_model(training_toys.TINY, 3)
    for name, variable in model.variables_by_name.items():
        wide.variables_by_name[name].assign(variable)
    assert rescued == Evaluator(wide).evaluate(batch, "abc")
