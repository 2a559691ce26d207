"""A tf.data service on loopback: a dispatcher and two workers, each a process of its own."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from command_line import UserError
from data import catalog, preprocessing, records, service, synthetic

SERVER = """
    import sys
    import tensorflow as tf
    service = tf.data.experimental.service
    if sys.argv[1] == "dispatcher":
        server = service.DispatchServer(service.DispatcherConfig(port=0))
        print(server.target, flush=True)
    else:
        server = service.WorkerServer(service.WorkerConfig(dispatcher_address=sys.argv[2], port=0))
        print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def address():
    """grpc://HOST:PORT of a dispatcher with two workers."""
    processes = []

    def start(*arguments):
        program = [sys.executable, "-c", textwrap.dedent(SERVER), *arguments]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        processes.append(subprocess.Popen(program, **streams))
        return processes[-1]

    try:
        target = start("dispatcher").stdout.readline().strip()
        workers = [start("worker", target.removeprefix("grpc://")) for _ in range(2)]
        assert [worker.stdout.readline().strip() for worker in workers] == ["ready", "ready"]
        yield target
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def batches_of(dataset, **settings):
    family = preprocessing.PREPROCESSING["cifar"]
    preprocess = preprocessing.Preprocess(family, 4, 4, is_training=True)
    batches = records.training_batches(dataset, "train", preprocess, 4, seed=3, **settings)
    images, labels = zip(*batches.take(14).as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize("cached_bytes", [2**20, 0])
def test_two_workers_give_the_batches_of_one_machine(make_dataset, address, cached_bytes):
    # 23 records an epoch, 14 batches of 4 from the third on: three epochs, and more batches than streams.
    dataset = make_dataset((9, 9, 0, 5))
    settings = {"first_step": 2, "cached_bytes": cached_bytes}
    images, labels = batches_of(dataset, **settings)
    served_images, served_labels = batches_of(dataset, **settings, service_address=address)
    np.testing.assert_array_equal(served_images, images)
    np.testing.assert_array_equal(served_labels, labels)


@pytest.mark.parametrize("cached_bytes", [2**20, 0])
def test_windows_of_jpegs_are_those_of_one_machine(address, tmp_path, cached_bytes):
    """Held images are cut from whole pictures, records are decoded in the window, where pixels at its border differ."""
    random = np.random.default_rng(0)
    examples = []
    for number in range(6):
        picture = random.integers(0, 256, [64, 64, 3], np.uint8)
        examples.append((tf.io.encode_jpeg(picture, quality=60).numpy(), "jpg", number % 3, 64, 64))
    records.write_examples(tmp_path / "toy_train.tfrecord", examples)
    description = {"name": "toy", "splits": {"train": 6}, "class_names": ["a", "b", "c"], "image_shape": [64, 64, 3]}
    description["file_pattern"] = "toy_{split}.tfrecord"
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    dataset = catalog.open_dataset(directory=tmp_path)
    preprocess = preprocessing.Preprocess(preprocessing.PREPROCESSING["torchvision"], 32, 32, is_training=True)
    here, served = (
        np.concatenate(
            [
                images
                for images, _ in records.training_batches(
                    dataset, "train", preprocess, 4, seed=3, cached_bytes=cached_bytes, service_address=service_address
                )
                .take(6)
                .as_numpy_iterator()
            ]
        )
        for service_address in (None, address)
    )
    np.testing.assert_array_equal(served, here)


def test_a_bad_record_is_explained(make_dataset, address):
    dataset = make_dataset((10,), num_classes=5)
    path = dataset.files("train")[0]
    with open(path, "rb+") as file:
        content = file.read()
        file.seek(len(content) - 40)
        file.write(b"\0" * 20)
    with (
        pytest.raises(records.DataError, match="record 9 .*damaged"),
        records.explain_errors(dataset, "train"),
    ):
        batches_of(dataset, cached_bytes=0, service_address=address)


@pytest.mark.parametrize("address", ["127.0.0.1:5050", "http://127.0.0.1:5050", "grpc://127.0.0.1", "grpc://:5050"])
def test_an_address_that_is_none(address):
    with pytest.raises(UserError, match="expected one like grpc://"):
        service.check_address(address)


def test_nobody_answers():
    with pytest.raises(UserError, match="no data service answers at grpc://127.0.0.1:9 .*start its dispatcher"):
        service.check_address("grpc://127.0.0.1:9")


def test_synthetic_images_stay_here():
    with pytest.raises(UserError, match="nothing to send"):
        batches_of(synthetic.synthetic_dataset(8, 2, 4), service_address="grpc://127.0.0.1:9")
