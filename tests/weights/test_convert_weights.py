"""The script: its flags, its errors, and what it leaves behind."""

import hashlib
import json
import pathlib
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from weights_toys import CLASSES, flags, kind_of, value_for

import convert_weights
from command_line import UserError
from data import records
from nets import checkpoints, nets_factory
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint
from weights import exporting, official_reference, places
from weights.importing import import_weights

SCRIPT = pathlib.Path(convert_weights.__file__)
NAME = "resnet_cifar_v1_20"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small checkpoint of the official programs."""
    random, values = np.random.default_rng(8), {}

    def get(name, shape):
        return values.setdefault(name, value_for(shape, kind_of(name), random))

    official_reference.forward(places.structure_of(NAME), get, np.zeros([1, 32, 32, 3], np.float32), CLASSES)
    prefix = tmp_path_factory.mktemp("official") / "model.ckpt"
    checkpoints.write(prefix, {f"resnet_model/{name}": value for name, value in values.items()})
    return prefix


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"name {number}\n" for number in range(CLASSES)))
    return path


def imported(source, output, **changes):
    config = {"source_format": "official", "model_name": NAME, "image_size": None}
    return import_weights(flags(source, output, **config | changes))


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_imports_and_verifies(tmp_path, source, labels):
    output = tmp_path / "new/ours"
    done = run(
        "--source_format=official", f"--source={source}", f"--model_name={NAME}", f"--output={output}", "--verify",
        f"--labels={labels}", f"--json={tmp_path / 'result.json'}",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{NAME} with {CLASSES} classes: 112 variables" in done.stdout and "largest difference" in done.stdout
    result = json.loads((tmp_path / "result.json").read_text())
    description = json.loads((output / "model.json").read_text())
    assert description["source"] == result
    for folder, listed in ((source.parent, result["files"]), (output, result["checkpoint"])):
        for name, recorded in listed.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == recorded
    assert description["label_names"][2] == "name 2" and description["training"] == {}
    assert tf.train.latest_checkpoint(str(output)) == str(output / "model.ckpt")


def test_an_error_is_one_line_and_leaves_nothing(tmp_path, source):
    done = run(
        "--source_format=official", f"--source={source}", "--model_name=resnet_cifar_v1_32",
        f"--output={tmp_path / 'a'}",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert f"give --model_name={NAME}" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("chosen", [{}, {"source_format": "slim", "target_format": "slim"}])
def test_one_direction_at_a_time(tmp_path, chosen):
    with pytest.raises(UserError, match="--source_format to import .*, or --target_format"):
        convert_weights.main(flags(tmp_path, tmp_path / "a", **chosen))


def test_a_difference_beyond_the_tolerance_writes_nothing(tmp_path, source):
    with pytest.raises(UserError, match="plain operations.* above --tolerance=1e-12, so nothing was written"):
        imported(source, tmp_path / "ours", verify=True, tolerance=1e-12)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_kept_unless_told(tmp_path, source):
    output = tmp_path / "ours"
    imported(source, output)
    with pytest.raises(UserError, match="ours exists; give another folder, or --overwrite"):
        imported(source, output)
    imported(source, output, image_size=48, overwrite=True)
    assert checkpoints.read_description(output)["preprocessing"]["image_size"] == 48
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_only_an_import_is_overwritten(tmp_path, source):
    (tmp_path / "precious").mkdir()
    with pytest.raises(UserError, match="precious is no folder of imported weights"):
        imported(source, tmp_path / "precious", overwrite=True)


def test_labels_in_every_form(tmp_path, source, labels):
    names = labels.read_text().splitlines()
    (tmp_path / "list.json").write_text(json.dumps(names))
    (tmp_path / "object.json").write_text(json.dumps({str(number): name for number, name in enumerate(names)}))
    # Keras' imagenet_class_index.json: {"0": ["n01440764", "tench"], ...}.
    pairs = {str(number): [f"n{number:08}", name] for number, name in enumerate(names)}
    (tmp_path / "keras.json").write_text(json.dumps(pairs))
    for path in (labels, tmp_path / "list.json", tmp_path / "object.json", tmp_path / "keras.json"):
        imported(source, tmp_path / "ours", labels=path, overwrite=True)
        assert checkpoints.read_description(tmp_path / "ours")["label_names"] == names


def test_labels_as_an_editor_saves_them(tmp_path, source, labels):
    """With a byte order mark, and an empty line at the end."""
    names = labels.read_text().splitlines()
    numbered = "\r\n".join(f"{number}:{name}" for number, name in enumerate(names))
    (tmp_path / "edited.txt").write_bytes(b"\xef\xbb\xbf" + f"{numbered}\r\n\r\n".encode())
    imported(source, tmp_path / "ours", labels=tmp_path / "edited.txt")
    assert checkpoints.read_description(tmp_path / "ours")["label_names"] == names


def test_labels_as_slim_numbers_them(tmp_path, source, labels):
    """dataset_utils.write_label_file of research/slim writes "%d:%s\\n"; a name may have a colon of its own."""
    names = [*labels.read_text().splitlines()[:-1], "ratio 4:3"]
    (tmp_path / "slim.txt").write_text("".join(f"{number}:{name}\n" for number, name in enumerate(names)))
    imported(source, tmp_path / "ours", labels=tmp_path / "slim.txt")
    assert checkpoints.read_description(tmp_path / "ours")["label_names"] == names
    # Those of a data set with a background, which the network leaves out.
    with_background = ["background", *names]
    (tmp_path / "slim.txt").write_text("".join(f"{number}:{name}\n" for number, name in enumerate(with_background)))
    imported(source, tmp_path / "ours", labels=tmp_path / "slim.txt", labels_offset=1, overwrite=True)
    assert checkpoints.read_description(tmp_path / "ours")["label_names"] == names
    with pytest.raises(UserError, match="names 8 classes, but the weights have 7"):
        imported(source, tmp_path / "ours", labels=tmp_path / "slim.txt", overwrite=True)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("few.txt", "a\nb\n", "few.txt names 2 classes, but the weights have 7"),
        ("gap.json", '{"0": "a", "2": "b"}', "gap.json cannot be read .*class number"),
        ("broken.json", '["a"', "broken.json cannot be read"),
        ("numbers.json", "[1, 2, 3, 4, 5, 6, 7]", "not all names are strings"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, source, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        imported(source, tmp_path / "ours", labels=tmp_path / name)
    with pytest.raises(UserError, match="absent.txt cannot be read"):
        imported(source, tmp_path / "ours", labels=tmp_path / "absent.txt")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_size": 0}, "--image_size is 0, expected at least 1"),
        ({"labels_offset": -1}, "--labels_offset is -1, expected at least 0"),
        ({"tolerance": float("nan")}, "--tolerance is nan, expected at least 0"),
    ],
)
def test_numbers_out_of_range(tmp_path, source, changes, message):
    with pytest.raises(UserError, match=message):
        imported(source, tmp_path / "ours", **changes)


def test_a_source_that_is_not_there(tmp_path):
    for source_format in ("slim", "keras", "torchvision", "official"):
        name = "resnet_v1_18" if source_format == "torchvision" else "resnet_v1_50"
        name = NAME if source_format == "official" else name
        with pytest.raises(UserError, match="nowhere"):
            imported(tmp_path / "nowhere", tmp_path / "a", source_format=source_format, model_name=name)


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(b"")
    (tmp_path / "a.safetensors").write_bytes(b"")
    for file, module, extra in (("a.pth", "torch", "torch"), ("a.safetensors", "safetensors", "safetensors")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UserError, match=rf"{module}, which is not installed: pip install -e '\.\[{extra}\]'"):
            imported(tmp_path / file, tmp_path / "b", source_format="torchvision", model_name="resnet_v1_18")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_name": NAME}, "--model_name does not go with --target_format"),
        ({"output": "a.txt"}, "a.txt is none of keras's files: .h5, .keras"),
    ],
)
def test_flags_that_do_not_go_with_an_export(tmp_path, changes, message):
    output = tmp_path / changes.pop("output", "a.h5")
    with pytest.raises(UserError, match=message):
        convert_weights.main(flags(tmp_path, output, target_format="keras", **changes))


def test_the_evaluator_scores_imported_weights(tmp_path, source):
    """Its predictions are those of the official layout, on the pictures as the official preprocessing makes them."""
    random = np.random.default_rng(9)
    pictures = random.integers(0, 256, [6, 32, 32, 3], dtype=np.uint8)
    values = {name.partition("/")[2]: checkpoints.reader(source).get_tensor(name)
              for name in checkpoints.reader(source).get_variable_to_shape_map()}  # fmt: skip
    inputs = np.stack([tf.image.per_image_standardization(picture) for picture in pictures])
    logits = official_reference.forward(places.structure_of(NAME), lambda name, shape: values[name], inputs)
    labels = np.argmax(logits, axis=1)
    labels[0] = (labels[0] + 1) % CLASSES
    folder = tmp_path / "records"
    folder.mkdir()
    examples = [
        (tf.io.encode_png(picture).numpy(), "png", int(label), 32, 32)
        for picture, label in zip(pictures, labels, strict=True)
    ]
    records.write_examples(folder / "toy_test.tfrecord", iter(examples))
    description = {
        "name": "toy",
        "splits": {"test": 6},
        "class_names": [f"class {number}" for number in range(CLASSES)],
        "file_pattern": "toy_{split}.tfrecord",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    imported(source, tmp_path / "ours")
    result = evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "ours", dataset_dir=str(folder)))
    assert (result["count"], result["top_1"]) == (6, pytest.approx(5 / 6))
    assert nets_factory.load_model(tmp_path / "ours")[0].num_classes == CLASSES


def test_a_folder_with_files_of_ones_own_is_not_overwritten(tmp_path, source):
    imported(source, tmp_path / "ours")
    (tmp_path / "ours" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="ours holds notes.txt besides, so it is not overwritten; give another folder"):
        imported(source, tmp_path / "ours", overwrite=True)
    assert (tmp_path / "ours" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["null", "3", "[1, 2]", '"name"'])
def test_labels_that_are_no_names(tmp_path, source, content):
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(UserError, match="labels.json cannot be read .*expected one name a line, a JSON list"):
        imported(source, tmp_path / "ours", labels=tmp_path / "labels.json")


def exportable(folder, model_name, **settings):
    """A checkpoint of ours that another library can have."""
    model = nets_factory.create_model(model_name, CLASSES, root_pool_padding="symmetric", **settings)
    model.save(folder / "model.ckpt")
    tf.compat.v1.train.update_checkpoint_state(str(folder), "model.ckpt", ["model.ckpt"])
    description = {"network": model.settings, "preprocessing": {"name": "vgg", "image_size": 32}, "labels_offset": 0}
    checkpoints.write_description(folder, description | {"label_names": None, "training": {}})
    return folder


@pytest.mark.parametrize("ending, library", [("safetensors", "safetensors"), ("pth", "torch")])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, ending, library):
    """Each library has an error of its own for it; here files may not grow past 64 KiB."""
    pytest.importorskip(library)
    source = exportable(tmp_path, "resnet_v1_18", stride_placement="first_unit")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
        with pytest.raises(UserError, match=f"w.{ending} could not be written: .*; make room, or name another place"):
            exporting.export_weights(flags(source, tmp_path / "new" / f"w.{ending}", target_format="torchvision"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not list((tmp_path / "new").iterdir())


def test_too_little_room_is_told_before_anything_is_written(tmp_path, monkeypatch):
    """resnet_v1_50 without its 1000 classes: 23.5 million parameters of 4 bytes, and the statistics of its norms."""
    source = exportable(tmp_path, "resnet_v1_50")
    usage = shutil.disk_usage(tmp_path)._replace(free=90_000_000)
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match="w.weights.h5 could not be written: it takes 95 MB, and 90 MB are free; make"):
        exporting.export_weights(flags(source, tmp_path / "new" / "w.weights.h5", target_format="keras"))
    assert not list((tmp_path / "new").iterdir())
