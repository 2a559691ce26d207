"""Networks of Keras Applications, read and written; Keras itself says what is right."""

import json

import h5py
import keras
import numpy as np
import pytest
from weights_toys import CLASSES, SIDE, assert_same_logits, flags, kind_of, pictures, value_for

from command_line import UserError
from nets import nets_factory
from weights import keras as keras_weights
from weights import keras_files, mapping, places
from weights.exporting import export_weights
from weights.foreign import Foreign
from weights.importing import import_weights

DEPTHS = [50, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (101, 152))]
PREPROCESS = {
    "": keras.applications.resnet.preprocess_input,
    "V2": keras.applications.resnet_v2.preprocess_input,
}


def keras_network(name, classes=CLASSES, weights=None):
    function = getattr(keras.applications, name)
    return function(weights=weights, classes=classes, classifier_activation=None, input_shape=(SIDE, SIDE, 3))


def randomize(model):
    random = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(value_for(variable.shape, kind_of(variable.path), random))
    return model


def values_of(model):
    return {f"{layer.name}/{weight.name}": weight.numpy() for layer in model.layers for weight in layer.weights}


@pytest.fixture(scope="module")
def v1():
    return randomize(keras_network("ResNet50"))


def our_logits(folder, pixels, name):
    """Our logits for pixels as the recorded preprocessing colours them, without its resizing."""
    model, description = nets_factory.load_model(folder)
    numbers = description["preprocessing"]
    inputs = pixels - np.float32(numbers["means"]) if name == "" else pixels / 127.5 - 1
    return model(inputs)[0]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("version", ["", "V2"])
def test_logits_are_keras_own_in_both_directions(tmp_path, depth, version):
    name = f"ResNet{depth}{version}"
    model = randomize(keras_network(name))
    pixels = pictures()
    expected = model(PREPROCESS[version](pixels.copy()))
    model.save_weights(tmp_path / "source.weights.h5")
    model_name = f"resnet_v{2 if version else 1}_{depth}"
    import_weights(
        flags(tmp_path / "source.weights.h5", tmp_path / "ours", source_format="keras", model_name=model_name)
    )
    assert_same_logits(our_logits(tmp_path / "ours", pixels, version), expected)
    file = tmp_path / "back.weights.h5"
    export_weights(flags(tmp_path / "ours", file, target_format="keras"))
    again = keras_network(name, weights=str(file))
    assert_same_logits(again(PREPROCESS[version](pixels.copy())), expected)


def write_tensorflow_js(folder, values, layers, shard_bytes=40_000_000):
    """A TensorFlow.js layers folder, as its converter writes it."""
    folder.mkdir()
    data = b"".join(value.astype("<f4").tobytes() for value in values.values())
    starts = range(0, len(data), shard_bytes)
    paths = [f"group1-shard{number + 1}of{len(starts)}.bin" for number in range(len(starts))]
    for path, start in zip(paths, starts, strict=True):
        (folder / path).write_bytes(data[start : start + shard_bytes])
    weights = [{"name": name, "shape": list(value.shape), "dtype": "float32"} for name, value in values.items()]
    model = {
        "format": "layers-model",
        "modelTopology": {"model_config": {"class_name": "Model", "config": {"layers": layers}}},
        "weightsManifest": [{"paths": paths, "weights": weights}],
    }
    (folder / "model.json").write_text(json.dumps(model))
    return folder


def test_every_kind_of_file_holds_the_same(tmp_path, v1):
    v1.save_weights(tmp_path / "v1.weights.h5")
    v1.save(tmp_path / "v1.keras")
    v1.save(tmp_path / "v1.h5")
    write_tensorflow_js(tmp_path / "js", values_of(v1), [])
    expected = values_of(v1)
    assert len(expected) == 320
    for name in ("v1.weights.h5", "v1.keras", "v1.h5", "js"):
        tensors = keras_files.read(tmp_path / name).tensors
        assert tensors.keys() == expected.keys(), name
        for key, value in expected.items():
            np.testing.assert_array_equal(tensors[key], value, err_msg=f"{name} {key}")


# Some of the names that Keras 2.2 gave to the layers of today's names, and all by the rule that these follow.
OLD_NAMES = {
    "conv1_conv": "conv1",
    "conv1_bn": "bn_conv1",
    "conv2_block1_0_conv": "res2a_branch1",
    "conv2_block1_0_bn": "bn2a_branch1",
    "conv2_block3_2_conv": "res2c_branch2b",
    "conv4_block6_3_bn": "bn4f_branch2c",
    "predictions": "fc1000",
}


def old_name(layer):
    if layer in OLD_NAMES:
        return OLD_NAMES[layer]
    stage, block, branch, kind = layer.split("_")
    branch = "1" if branch == "0" else "2" + " abc"[int(branch)]
    letter = " abcdef"[int(block.removeprefix("block"))]
    return f"{'res' if kind == 'conv' else 'bn'}{stage.removeprefix('conv')}{letter}_branch{branch}"


def old_layers(epsilon, strides=((2, 2), (1, 1)), pool_pad="ZeroPadding2D"):
    """As much of a Keras 2.2 configuration as is read."""
    rows = [
        ("Conv2D", "conv1", {"strides": [2, 2]}),
        ("BatchNormalization", "bn_conv1", {"epsilon": epsilon}),
        (pool_pad, "pool1_pad", {}),
        ("MaxPooling2D", "max_pooling2d", {}),
        ("Conv2D", "res3a_branch2a", {"strides": list(strides[0])}),
        ("Conv2D", "res3a_branch2b", {"strides": list(strides[1])}),
    ]
    return [{"class_name": kind, "config": {"name": name, **config}} for kind, name, config in rows]


def with_old_names(model):
    renamed = {}
    for name, value in values_of(model).items():
        layer, _, weight = name.partition("/")
        renamed[f"{old_name(layer)}/{weight}"] = value
    return renamed


def test_old_names_are_the_same_places(tmp_path, v1):
    structure = places.structure_of("resnet_v1_50")
    old, today = [
        mapping.to_ours(keras_weights, structure, tensors, "where_shapes_differ", True)
        for tensors in (with_old_names(v1), values_of(v1))
    ]
    assert old.keys() == today.keys() and len(old) == 267
    for name, value in today.items():
        np.testing.assert_array_equal(old[name], value, err_msg=name)
    source = write_tensorflow_js(tmp_path / "js", with_old_names(v1), old_layers(epsilon=0.003))
    assert keras_weights.settings(structure, keras_weights.read(source, False))["batch_norm_epsilon"] == 0.003


def test_a_v1_file_with_old_names_lacks_what_v2_is_called_today():
    tensors = {"conv1/kernel": np.zeros([7, 7, 3, 64]), "bn_conv1/gamma": np.zeros([64])}
    missing, unexpected = mapping.compare_names(
        keras_weights, places.structure_of("resnet_v2_50"), tensors, "where_shapes_differ"
    )
    assert {"conv1_conv/kernel", "conv2_block1_preact_bn/gamma", "post_bn/beta"} <= set(missing)
    assert unexpected == ["bn_conv1/gamma", "conv1/kernel"] and not any("None" in name for name in missing)


@pytest.mark.slow
def test_old_names_and_an_old_epsilon(tmp_path, v1):
    source = write_tensorflow_js(tmp_path / "js", with_old_names(v1), old_layers(epsilon=0.001))
    (source / "labels.json").write_text(json.dumps({str(number): f"name {number}" for number in range(CLASSES)}))
    import_weights(flags(source, tmp_path / "ours", source_format="keras", model_name="resnet_v1_50"))
    model, description = nets_factory.load_model(tmp_path / "ours")
    assert description["label_names"] == [f"name {number}" for number in range(CLASSES)]
    assert description["network"]["batch_norm_epsilon"] == 0.001
    assert sorted(description["source"]["files"]) == sorted(path.name for path in source.iterdir() if path.suffix
                                                            == ".bin" or path.name == "model.json")  # fmt: skip
    reference = keras_network("ResNet50")
    reference.set_weights(v1.get_weights())
    for layer in reference.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = 0.001
    pixels = pictures()
    expected = np.asarray(reference(PREPROCESS[""](pixels.copy())))
    assert_same_logits(our_logits(tmp_path / "ours", pixels, ""), expected)
    assert np.abs(expected - v1(PREPROCESS[""](pixels.copy()))).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["back.h5", "back.keras"])
def test_another_epsilon_goes_into_the_variances_of_a_whole_model(tmp_path, v1, name):
    source = write_tensorflow_js(tmp_path / "js", with_old_names(v1), old_layers(epsilon=0.01))
    import_weights(flags(source, tmp_path / "ours", source_format="keras", model_name="resnet_v1_50"))
    pixels = pictures()
    expected = np.asarray(our_logits(tmp_path / "ours", pixels, ""))
    export_weights(flags(tmp_path / "ours", tmp_path / name, target_format="keras", verify=True))
    whole = keras.models.load_model(tmp_path / name, compile=False)
    probabilities = np.exp(expected - expected.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(whole(PREPROCESS[""](pixels.copy())), probabilities, atol=1e-4)


def test_a_network_of_images_that_keras_takes_for_too_small(tmp_path, v1):
    """Its weights do not depend on their size."""
    v1.save_weights(tmp_path / "source.weights.h5")
    settings = {"source_format": "keras", "model_name": "resnet_v1_50", "image_size": 28}
    import_weights(flags(tmp_path / "source.weights.h5", tmp_path / "ours", **settings))
    with pytest.raises(UserError, match="no network for images under 32 pixels, this one's have 28; its weights alone"):
        export_weights(flags(tmp_path / "ours", tmp_path / "whole.keras", target_format="keras"))
    export_weights(flags(tmp_path / "ours", tmp_path / "back.weights.h5", target_format="keras"))
    again = keras_network("ResNet50", weights=str(tmp_path / "back.weights.h5"))
    inputs = PREPROCESS[""](pictures())
    assert_same_logits(again(inputs), v1(inputs))


@pytest.mark.slow
def test_rgb_weights_stay_rgb_under_another_preprocessing(tmp_path, v1):
    """A network trained on RGB in -1 to 1, as many fine-tuned ones are."""
    v1.save_weights(tmp_path / "a.weights.h5")
    config = {"source_format": "keras", "model_name": "resnet_v1_50", "preprocessing_name": "inception"}
    result = import_weights(flags(tmp_path / "a.weights.h5", tmp_path / "a", **config, verify=True))
    assert 0 < result["verification"]["difference"] < 1e-4 and result["verification"]["image_size"] == SIDE
    model, description = nets_factory.load_model(tmp_path / "a")
    assert description["preprocessing"]["name"] == "inception"
    inputs = pictures() / 127.5 - 1
    assert_same_logits(model(inputs)[0], v1(inputs))


@pytest.mark.slow
def test_weights_without_top_become_features(tmp_path):
    network = keras.applications.ResNet50V2(weights=None, include_top=False, pooling="avg", input_shape=(SIDE, SIDE, 3))
    randomize(network).save_weights(tmp_path / "a.weights.h5")
    import_weights(
        flags(tmp_path / "a.weights.h5", tmp_path / "a", source_format="keras", model_name="resnet_v2_50", verify=True)
    )
    model, description = nets_factory.load_model(tmp_path / "a")
    assert description["network"]["num_classes"] is None and description["label_names"] is None
    inputs = pictures() / 127.5 - 1
    assert_same_logits(model(inputs)[0][:, 0, 0], network(inputs))


def tiny_folder(tmp_path, more=(), **changes):
    """A TensorFlow.js folder whose configuration says more than its one tensor."""
    values = {"bn_conv1/gamma": np.ones(4, np.float32)}
    more = [{"class_name": kind, "config": {"name": "added"}} for kind in more]
    return write_tensorflow_js(tmp_path / "js", values, [*old_layers(0.001, **changes), *more])


@pytest.mark.parametrize(
    "changes, model_name, message",
    [
        ({"strides": ((1, 1), (2, 2))}, "resnet_v1_50", "strides .* --model_name=resnet_v1_5_50"),
        ({}, "resnet_v1_5_50", "strides .* --model_name=resnet_v1_50"),
        ({"pool_pad": "Activation"}, "resnet_v1_50", "max_pooling2d pools without padding"),
        (
            {"more": ["GlobalMaxPooling2D"]},
            "resnet_v1_50",
            "layer added is a GlobalMaxPooling2D, which no",
        ),
        ({"more": ["Rescaling"]}, "resnet_v1_50", r"layer added \(Rescaling\) preprocesses .*--preprocessing_name"),
        ({}, "resnet_v1_18", "expected a network that format keras has: resnet_v1_50"),
    ],
)
def test_a_configuration_that_says_otherwise_is_refused(tmp_path, changes, model_name, message):
    source = tiny_folder(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        import_weights(flags(source, tmp_path / "ours", source_format="keras", model_name=model_name))


def test_missing_and_short_shards_are_refused(tmp_path):
    source = write_tensorflow_js(tmp_path / "js", {"a/kernel": np.ones([100, 4], np.float32)}, [], shard_bytes=600)
    config = flags(source, tmp_path / "ours", source_format="keras", model_name="resnet_v1_50")
    shard = source / "group1-shard2of3.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match="hold 1,599 bytes where it lists 1,600"):
        import_weights(config)
    shard.unlink()
    with pytest.raises(UserError, match="not there: group1-shard2of3.bin"):
        import_weights(config)
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("name", ["a.h5", "a.keras"])
def test_truncated_and_foreign_files_are_refused(tmp_path, name):
    path = tmp_path / name
    config = flags(path, tmp_path / "ours", source_format="keras", model_name="resnet_v1_50")
    small = keras.Sequential([keras.Input([8]), keras.layers.Dense(300)])
    small.save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=f"{name} cannot be read: .*another copy"):
        import_weights(config)
    path.write_bytes(b"no weights at all")
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        import_weights(config)
    with h5py.File(path, "w") as file:
        file["something"] = np.ones(3)
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        import_weights(config)


@pytest.mark.parametrize("kind", ["BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization"])
def test_norms_by_other_names_are_norms(tmp_path, kind):
    layers = old_layers(epsilon=0.003)
    layers[1]["class_name"] = kind
    source = write_tensorflow_js(tmp_path / "js", {"bn_conv1/gamma": np.ones(4, np.float32)}, layers)
    settings = keras_weights.settings(places.structure_of("resnet_v1_50"), keras_weights.read(source, False))
    assert settings["batch_norm_epsilon"] == 0.003


@pytest.mark.parametrize("shape", [[None, 96, 96, 3], [None, None, None, 3], None])
def test_the_size_of_the_images_is_that_of_the_input_layer(shape):
    layers = [{"class_name": "InputLayer", "name": "input", **({"batch_shape": shape} if shape else {})}]
    foreign = Foreign({}, [], {"layers": layers})
    size = keras_weights.preprocessing(places.structure_of("resnet_v1_50"), foreign)[2]
    assert size == (96 if shape and shape[1] else 224)


def test_weights_of_layers_that_no_network_has_are_reported(tmp_path):
    """An adapted Normalization has three: mean, variance, count."""
    inputs = keras.Input([8, 8, 3])
    model = keras.Model(inputs, keras.layers.Normalization(name="adapted")(inputs))
    model.save_weights(tmp_path / "a.weights.h5")
    tensors = keras_weights.read(tmp_path / "a.weights.h5", False).tensors
    assert set(tensors) == {"adapted/0", "adapted/1", "adapted/2"}
