"""Slim's checkpoints, read and written; a TensorFlow 1 graph and its Saver say what is right."""

import numpy as np
import pytest
import tensorflow as tf
from weights_toys import CLASSES, SIDE, assert_same_logits, flags, kind_of, value_for

from command_line import UserError
from nets import checkpoints, nets_factory
from weights import places, slim
from weights.exporting import export_weights
from weights.importing import import_weights

IMAGES = np.random.default_rng(4).normal(size=[3, SIDE, SIDE, 3]).astype(np.float32)
SHADOW = "/ExponentialMovingAverage"


def slim_graph(session, model_name, scope):
    """Slim's network in the session's graph; its logits."""
    network_fn = nets_factory.get_network_fn(model_name, CLASSES)
    return network_fn(tf.constant(IMAGES), scope=scope)[0]


def train_and_save(prefix, model_name, scope, version, shadows=False):
    """Writes what a run of Slim's trainer leaves behind, with random values.

    Returns:
      Logits of the weights, and with `shadows` those of their moving averages, else None.
    """
    random = np.random.default_rng(6)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        logits = slim_graph(session, model_name, scope)
        variables = tf.compat.v1.global_variables()

        def load():
            values = {v: value_for(v.shape.as_list(), kind_of(v.op.name), random) for v in variables}
            session.run([v.initializer for v in values], {v.initializer.inputs[1]: values[v] for v in values})
            return list(values.values()), session.run(logits)

        names = [variable.op.name for variable in variables]
        averages, averaged_logits = load() if shadows else ([], None)
        values, expected = load()
        extra = {name + SHADOW: value for name, value in zip(names, averages, strict=False)}
        extra |= {f"{names[0]}/Momentum": values[0], f"{names[0]}/RMSProp_1": values[0]}
        extra |= {"global_step": np.int64(12), f"{scope}/mean_rgb": np.float32([123.68, 116.779, 103.939])}
        kept = {name: tf.compat.v1.Variable(value, name=f"kept/{name}") for name, value in extra.items()}
        session.run([variable.initializer for variable in kept.values()])
        saver = tf.compat.v1.train.Saver(dict(zip(names, variables, strict=True)) | kept, write_version=version)
        saver.save(session, str(prefix), write_meta_graph=False)
    return expected, averaged_logits


def test_a_v1_file_with_all_that_training_left_in_it(tmp_path):
    file = tmp_path / "resnet_v1_50.ckpt"
    expected, _ = train_and_save(file, "resnet_v1_50", "resnet_v1_50", tf.compat.v1.train.SaverDef.V1)
    assert file.is_file() and not file.with_suffix(".ckpt.index").exists()
    result = import_weights(flags(file, tmp_path / "ours", source_format="slim", model_name="resnet_v1_50"))
    assert list(result["files"]) == ["resnet_v1_50.ckpt"]
    model, description = nets_factory.load_model(tmp_path / "ours")
    assert_same_logits(model(IMAGES)[0], expected)
    assert (model.num_classes, description["labels_offset"]) == (CLASSES, 0)
    assert description["preprocessing"]["means"] == [123.68, 116.779, 103.939]


def test_a_network_that_only_this_zoo_has(tmp_path):
    """A Saver wrote it: users build these in sessions of their own, as docs/slim.md shows."""
    name = "resnet_cifar_v2_20"
    expected, _ = train_and_save(tmp_path / "model.ckpt", name, "tower/net", tf.compat.v1.train.SaverDef.V2)
    import_weights(flags(tmp_path / "model.ckpt", tmp_path / "ours", source_format="slim", model_name=name))
    model, description = nets_factory.load_model(tmp_path / "ours")
    assert_same_logits(model(IMAGES)[0], expected)
    assert description["preprocessing"]["name"] == "cifar"


def test_moving_averages_take_the_place_of_the_weights(tmp_path):
    plain = {"net/conv1/weights": np.ones([2]), "net/conv1/biases": np.ones([3]), "net/mean_rgb": np.arange(3.0)}
    # What was not averaged keeps its value.
    others = {"net/conv1/weights" + SHADOW: np.full([2], 5.0), "net/conv1/weights/Momentum": np.ones([2])}
    checkpoints.write(tmp_path / "model.ckpt-3", plain | others | {"global_step": np.int64(3)})
    for use_moving_averages, weights in ((False, 1.0), (True, 5.0), (None, 5.0)):
        found = slim.read(tmp_path / "model.ckpt-3", use_moving_averages)
        assert sorted(found.tensors) == ["conv1/biases", "conv1/weights"]
        np.testing.assert_array_equal(found.tensors["conv1/weights"], [weights] * 2)
        np.testing.assert_array_equal(found.tensors["conv1/biases"], [1] * 3)
        assert found.facts["mean_rgb"] == [0, 1, 2]


@pytest.mark.slow
def test_moving_averages_in_a_network_within_another_scope(tmp_path):
    scope = "detector/resnet_v2_50"
    version = tf.compat.v1.train.SaverDef.V2
    expected, averaged = train_and_save(tmp_path / "model.ckpt-12", "resnet_v2_50", scope, version, shadows=True)
    # The Saver's state file lies there, so the folder is enough.
    config = {"source_format": "slim", "model_name": "resnet_v2_50", "image_size": None}
    import_weights(flags(tmp_path, tmp_path / "plain", use_moving_averages=False, **config))
    result = import_weights(flags(tmp_path, tmp_path / "averages", verify=True, **config))
    assert result["verification"]["difference"] < 1e-4
    written = flags(tmp_path / "averages", tmp_path / "back.ckpt", target_format="slim", verify=True)
    assert export_weights(written)["verification"]["difference"] < 1e-4
    for folder, logits in {"plain": expected, "averages": averaged}.items():
        model, description = nets_factory.load_model(tmp_path / folder)
        assert_same_logits(model(IMAGES)[0], logits)
        # research/slim's notes on its v2 networks: Inception preprocessing at 299 pixels.
        numbers = description["preprocessing"]
        assert (numbers["name"], numbers["image_size"]) == ("inception", 299)
    assert np.abs(expected - averaged).max() > 0.1 * np.abs(expected).max()


def our_checkpoint(folder, model_name, size=SIDE, **settings):
    """A checkpoint of ours with random values, described."""
    random = np.random.default_rng(7)
    model = nets_factory.create_model(model_name, CLASSES, **settings)
    for name, variable in model.variables_by_name.items():
        variable.assign(value_for(variable.shape, kind_of(name), random))
    model.save(folder / "model.ckpt")
    description = {
        "network": model.settings,
        "preprocessing": {"name": "vgg", "image_size": size, "means": [1.0, 2.0, 3.0]},
        "labels_offset": 0,
        "label_names": None,
        "training": {},
    }
    checkpoints.write_description(folder, description)
    return model


def test_a_saver_restores_what_is_written_for_slim(tmp_path):
    model = our_checkpoint(tmp_path / "ours", "resnet_v1_50", batch_norm_epsilon=0.1)
    expected = model(IMAGES)[0].numpy()
    target = tmp_path / "slim.ckpt"
    source = tmp_path / "ours/model.ckpt"
    result = export_weights(flags(source, target, target_format="slim"))
    assert sorted(result["files"]) == ["slim.ckpt.data-00000-of-00001", "slim.ckpt.index"]
    # Slim's epsilon is 1e-5: the rest of ours has gone into the variances.
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        logits = slim_graph(session, "resnet_v1_50", "resnet_v1_50")
        tf.compat.v1.train.Saver().restore(session, str(target))
        assert_same_logits(session.run(logits), expected)
    np.testing.assert_array_equal(checkpoints.reader(target).get_tensor("resnet_v1_50/mean_rgb"), [1, 2, 3])
    with pytest.raises(UserError, match="slim.ckpt exists; give another file, or --overwrite"):
        export_weights(flags(source, target, target_format="slim"))


@pytest.fixture
def names_only(tmp_path):
    """Writes a checkpoint that has all names of a network; the values are single numbers."""

    def write(model_name, ending=""):
        structure = places.structure_of(model_name)
        names = [
            places.variable_name(structure, place, quantity)
            for place in places.list_places(structure)
            for quantity in places.quantities(structure, place)
        ]
        checkpoints.write(tmp_path / "names.ckpt", {name + ending: np.zeros([1], np.float32) for name in names})
        return tmp_path / "names.ckpt"

    return write


@pytest.mark.parametrize(
    "holds, model_name, missing",
    [
        ("resnet_v1_101", "resnet_v1_50", "0 missing, 255 unexpected"),
        ("resnet_v1_50", "resnet_v1_152", "510 missing .*0 unexpected"),
        ("resnet_v2_50", "resnet_v1_50", r"missing \(block1.*unexpected \(block1"),
    ],
)
def test_another_networks_name_is_refused_with_the_right_one(tmp_path, names_only, holds, model_name, missing):
    message = f"do not fit {model_name}: .*{missing}.*; they are a {holds}'s: give --model_name={holds}"
    with pytest.raises(UserError, match=message):
        import_weights(flags(names_only(holds), tmp_path / "ours", source_format="slim", model_name=model_name))


def test_moving_averages_that_are_not_there_or_alone(tmp_path, names_only):
    config = {"source_format": "slim", "model_name": "resnet_v1_50"}
    with pytest.raises(UserError, match="holds no moving averages"):
        import_weights(flags(names_only("resnet_v1_50"), tmp_path / "a", use_moving_averages=True, **config))
    with pytest.raises(UserError, match="moving averages only; leave out --use_moving_averages=False"):
        config["use_moving_averages"] = False
        import_weights(flags(names_only("resnet_v1_50", SHADOW), tmp_path / "a", **config))


def test_a_truncated_checkpoint_is_refused(tmp_path):
    prefix = tmp_path / "cut.ckpt"
    checkpoints.write(prefix, {"resnet_v1_50/conv1/weights": np.ones([7, 7, 3, 64], np.float32)})
    data = prefix.with_name("cut.ckpt.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(UserError, match="cut.ckpt.*another copy"):
        import_weights(flags(prefix, tmp_path / "ours", source_format="slim", model_name="resnet_v1_50"))
