"""What stops an export: each says what is wrong and leaves no output."""

import json
import shutil
import sys

import exporting_toys
import numpy as np
import pytest
from exporting_toys import CLASS_NAMES, config

from command_line import UserError
from exporting import formats, to_tflite
from exporting.destination import Destination
from exporting.export import export
from exporting.runtime import Runtime
from nets import checkpoints


@pytest.fixture
def out(tmp_path):
    """A folder for outputs; after the test nothing may be in it."""
    folder = tmp_path / "out"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


def describe_otherwise(checkpoint, folder, **changes):
    """A copy of a checkpoint with another description."""
    shutil.copytree(checkpoint, folder)
    checkpoints.write_description(folder, checkpoints.read_description(checkpoint) | changes)
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"end_points": "block9"}, r"unknown end point 'block9'; known: .*resnet_cifar_v1_20/block1"),
        ({"end_points": "block1,logits"}, "--end_points names logits, which is an output by itself"),
        ({"precision": "bfloat16"}, r"tflite has no --precision=bfloat16; it has .*int8, and saved_model has bfloat16"),
        ({"num_images": -1}, "--num_images is -1, expected at least 0"),
        ({"batch_size": 0}, "--batch_size is 0, expected at least 1"),
        ({"eval_image_size": 0}, "--eval_image_size is 0, expected at least 1"),
        ({"tolerance": float("nan")}, "--tolerance is nan, expected at least 0"),
        ({"num_images": 3}, "has 3 records, expected at least 4.*--num_images=0"),
        ({"precision": "int8", "num_calibration_images": 0}, "--num_calibration_images is 0, expected at least 1"),
        ({"dataset_split_name": "holdout"}, "no split 'holdout'"),
        (
            {"dataset_dir": "/nowhere"},
            "/nowhere does not exist.*; or compare on generated pictures with --num_images=0",
        ),
        ({"dataset_name": "digits"}, "class 0 is 'café' in the checkpoint|ten"),
    ],
)
def test_flags(cifar_v1, out, changes, message, capsys, monkeypatch):
    if "dataset_name" in changes:
        # Ten classes, as the network has, but other ones: a warning, for names of one class differ between lists.
        monkeypatch.setattr(to_tflite, "write", lambda *arguments: (_ for _ in ()).throw(UserError("ten")))
    with pytest.raises(UserError, match=message):
        export(config(cifar_v1, "tflite", out / "model.tflite", **changes))
    if "dataset_name" in changes:
        assert "warning: class 0 is 'café' in the checkpoint, but 'zero' in data set digits" in capsys.readouterr().err


def test_names_of_outputs(cifar_v1, out, tmp_path):
    with pytest.raises(UserError, match=r"model\.bin, expected a file name that ends in \.onnx"):
        export(config(cifar_v1, "onnx", out / "model.bin"))
    for form, name in [("openvino", "model.bin"), ("onnx", "model.onnx"), ("saved_model", "folder/file")]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine", encoding="utf-8")
        output = {"openvino": tmp_path / "model.xml", "saved_model": path.parent}.get(form, path)
        with pytest.raises(UserError, match=r"exists: name another --output, or replace it with --overwrite"):
            export(config(cifar_v1, form, output))
        assert path.read_text(encoding="utf-8") == "mine"
    # Not everything may be overwritten: a folder that holds no SavedModel is somebody's.
    with pytest.raises(UserError, match="is no such export, so it is not replaced"):
        export(config(cifar_v1, "saved_model", tmp_path / "folder", overwrite=True))
    with pytest.raises(UserError, match="is no such export, so it is not replaced"):
        (tmp_path / "other.tflite").mkdir()
        export(config(cifar_v1, "tflite", tmp_path / "other.tflite", overwrite=True))


@pytest.mark.parametrize(
    ("form", "precision", "library", "extra"),
    [
        ("onnx", "float32", "tf2onnx", "onnx"),
        ("onnx", "int8", "onnxruntime", "onnx"),
        ("openvino", "float16", "openvino", "openvino"),
        ("openvino", "int8", "onnxruntime", "onnx,openvino"),
    ],
)
def test_a_missing_library_names_its_extra(monkeypatch, form, precision, library, extra):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=rf"needs {library}, .*pip install -e '\.\[{extra}\]'"):
        formats.find_format(form, precision)


def test_checkpoints(cifar_v1, out, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no checkpoint in folder"):
        export(config(empty, "tflite", out / "model.tflite"))
    foreign = tmp_path / "foreign"
    shutil.copytree(cifar_v1, foreign)
    (foreign / "model.json").unlink()
    with pytest.raises(UserError, match=r"no model\.json beside checkpoint .*convert_weights\.py"):
        export(config(foreign, "tflite", out / "model.tflite"))
    labels = describe_otherwise(cifar_v1, tmp_path / "labels", label_names=list(CLASS_NAMES[:9]))
    with pytest.raises(UserError, match="has 9 label_names, but its network 10 classes"):
        export(config(labels, "tflite", out / "model.tflite"))


def test_data_sets_of_other_labels(cifar_v1, toy_dir, out, tmp_path):
    for names, message in [
        (CLASS_NAMES[:4], r"the network has 10 classes, but data set toy 4 \(of 4, labels_offset 0\)"),
        (CLASS_NAMES[::-1], "class 0 is 'café' in the checkpoint, but 'lamp' .*: the same labels in another order"),
    ]:
        folder = tmp_path / str(len(names))
        shutil.copytree(toy_dir, folder)
        description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        (folder / "dataset.json").write_text(json.dumps(description | {"class_names": names}), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            export(config(cifar_v1, "tflite", out / "model.tflite", dataset_dir=str(folder)))
    nameless = describe_otherwise(cifar_v1, tmp_path / "nameless", training={})
    with pytest.raises(UserError, match="int8 is calibrated on records, .* give --dataset_dir"):
        export(config(nameless, "tflite", out / "model.tflite", precision="int8"))


def test_an_export_over_the_tolerance_is_not_left(cifar_v1, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"an earlier one")
    with pytest.raises(UserError, match=r"logits by .* of its largest value, tolerance 1e-09; nothing was written"):
        export(config(cifar_v1, "onnx", path, tolerance=1e-9, overwrite=True, num_images=0))
    assert path.read_bytes() == b"an earlier one"
    assert list(tmp_path.iterdir()) == [path]


def write_saved_model(folder, text):
    folder.mkdir()
    (folder / "saved_model.pb").write_text(text, encoding="utf-8")


def test_an_earlier_export_is_replaced_whole(tmp_path):
    write_saved_model(tmp_path / "model", "earlier")
    (tmp_path / "model" / "stale").touch()
    with Destination(tmp_path / "model", (), overwrite=True).writing() as part:
        write_saved_model(part, "later")
        assert (tmp_path / "model" / "stale").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "saved_model.pb"]
    assert (tmp_path / "model" / "saved_model.pb").read_text(encoding="utf-8") == "later"
    pair = Destination(tmp_path / "model.xml", (".xml", ".bin"), overwrite=False)
    with pytest.raises(RuntimeError), pair.writing() as part:
        part.touch()
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pair.writing() as part:
        part.write_bytes(b"12")
        part.with_suffix(".bin").write_bytes(b"345")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.bin", "model.xml"]
    assert pair.size() == 5


def test_a_link_to_an_export_stays_a_link(tmp_path):
    write_saved_model(tmp_path / "v3", "earlier")
    (tmp_path / "latest").symlink_to("v3")
    with Destination(tmp_path / "latest", (), overwrite=True).writing() as part:
        write_saved_model(part, "later")
    assert (tmp_path / "latest").is_symlink()
    assert (tmp_path / "v3" / "saved_model.pb").read_text(encoding="utf-8") == "later"


def test_a_folder_that_tensorflow_could_not_read_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="has a .* in its name"):
        Destination(tmp_path / "run[1]", (), overwrite=False)
    Destination(tmp_path / "run[1].onnx", (".onnx",), overwrite=False)


def test_a_link_to_a_file_is_replaced(tmp_path):
    """As of a store of files, which are not to be changed."""
    (tmp_path / "stored").write_bytes(b"earlier")
    (tmp_path / "out.onnx").symlink_to("stored")
    with Destination(tmp_path / "out.onnx", (".onnx",), overwrite=True).writing() as part:
        part.write_bytes(b"later")
    assert (tmp_path / "stored").read_bytes() == b"earlier" and (tmp_path / "out.onnx").read_bytes() == b"later"


def test_what_a_converter_raises_is_one_line(cifar_v1, out, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("node 7 failed to prepare\nand much more")

    monkeypatch.setattr(to_tflite, "write", fail)
    with pytest.raises(
        UserError, match=r"converter failed on this network: RuntimeError: node 7 failed to prepare; try"
    ):
        export(config(cifar_v1, "tflite", out / "model.tflite"))


def test_a_file_that_its_runtime_cannot_read(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(UserError, match=r"the onnx export cannot be run \(exit status 1\): .*Protobuf"):
        Runtime("onnx", path).__enter__()


def test_wrong_inputs_are_told_by_the_runtime(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs the [onnx] extra")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "negative", [value], [result])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), str(tmp_path / "model.onnx"))
    with Runtime("onnx", tmp_path / "model.onnx") as runtime:
        assert runtime.version.startswith("onnxruntime ")
        np.testing.assert_array_equal(runtime.run({"x": np.float32([3])})["y"], [-3])
        with pytest.raises(UserError, match="the onnx export cannot be run"):
            runtime.run({"z": np.float32([3])})
        # It is gone: a batch that no pipe can hold is neither sent nor waited for.
        with pytest.raises(UserError, match="the onnx export cannot be run"):
            runtime.run({"x": np.zeros(1_000_000, np.float32)})


def test_calibration_draws_from_all_of_the_split_and_every_record_once(toy_dir):
    from data import catalog
    from exporting import pictures

    dataset = catalog.open_dataset("toy", toy_dir)
    images = pictures.for_calibration(dataset, lambda image, seed: image[:8, :8], 0, 1000)
    assert len(images) == exporting_toys.TRAIN_COUNT
    assert len(np.unique(images.reshape([len(images), -1]), axis=0)) == len(images)
