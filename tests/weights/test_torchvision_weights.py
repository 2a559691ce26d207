"""State dicts of torchvision and timm, read and written; their own networks say what is right."""

import json
from itertools import product

import numpy as np
import pytest
import torch_networks
from torch_networks import logits_of, randomize
from weights_toys import CLASSES, assert_same_logits, flags, pictures

from command_line import UserError
from nets import checkpoints, nets_factory
from weights.exporting import export_weights
from weights.importing import import_weights

torch = pytest.importorskip("torch", reason="PyTorch is the optional [torch] extra")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="the optional [safetensors] extra")

NAMES = {18: "resnet_v1_18", 34: "resnet_v1_34", 50: "resnet_v1_5_50", 101: "resnet_v1_5_101", 152: "resnet_v1_5_152"}
QUICK = [("torchvision", 50), ("timm", 18)]
NETWORKS = [
    (library, depth) if (library, depth) in QUICK else pytest.param(library, depth, marks=pytest.mark.slow)
    for library, depth in [*product(("torchvision", "timm"), NAMES), ("plain", 50)]
]


def network(depth, classes=CLASSES):
    return randomize(torch_networks.make("plain", depth, classes), seed=depth)


def our_logits(folder, pixels):
    model, description = nets_factory.load_model(folder)
    numbers = description["preprocessing"]
    assert numbers["name"] == "torchvision"
    inputs = (pixels / 255 - np.float32(numbers["means"])) / np.float32(numbers["standard_deviations"])
    return model(inputs)[0]


# https://pytorch.org/vision/stable/models/resnet.html: parameters of the published networks of 1000 classes.
@pytest.mark.parametrize("depth, parameters", [(18, 11689512), (34, 21797672), (50, 25557032), (101, 44549160)])
def test_the_network_that_verify_runs_is_torchvisions(depth, parameters):
    model, theirs = (torch_networks.make(library, depth, 1000).state_dict() for library in ("plain", "torchvision"))
    assert sum(value.numel() for value in torch_networks.make("plain", depth, 1000).parameters()) == parameters
    assert {name: value.shape for name, value in model.items()} == {name: value.shape for name, value in theirs.items()}


@pytest.mark.parametrize("library, depth", NETWORKS)
def test_logits_are_those_of_the_library_in_both_directions(tmp_path, library, depth):
    model, pixels = randomize(torch_networks.make(library, depth, CLASSES), seed=depth), pictures()
    expected = logits_of(model, pixels)
    torch.save(model.state_dict(), tmp_path / "source.pth")
    config = {"source_format": "torchvision", "model_name": NAMES[depth], "verify": True}
    result = import_weights(flags(tmp_path / "source.pth", tmp_path / "ours", **config))
    assert 0 < result["verification"]["difference"] < 1e-4
    assert_same_logits(our_logits(tmp_path / "ours", pixels), expected)

    file = tmp_path / "back.safetensors"
    export_weights(flags(tmp_path / "ours", file, target_format="torchvision", verify=True))
    again = torch_networks.make(library, depth, CLASSES).eval()
    again.load_state_dict(safetensors_torch.load_file(file), strict=True)
    for name, value in model.state_dict().items():
        # The epsilon is the same, so the round trip changes no bit.
        assert torch.equal(again.state_dict()[name], value), name
    np.testing.assert_array_equal(logits_of(again, pixels), expected)


@pytest.fixture(scope="module")
def small():
    return network(18)


def imported(source, output, **changes):
    config = {"source_format": "torchvision", "model_name": "resnet_v1_18"}
    return import_weights(flags(source, output, **config | changes))


def saved(folder, value):
    torch.save(value, folder / "a.pth")
    return folder / "a.pth"


def values_of(folder):
    reader = checkpoints.reader(folder)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def test_what_training_programs_wrap_around_a_state_dict(tmp_path, small):
    """PyTorch's example trains in parallel and saves more; timm adds moving averages."""
    plain = {f"_orig_mod.module.{name}": value for name, value in small.state_dict().items()}
    averages = {name: value / 2 if value.is_floating_point() else value for name, value in small.state_dict().items()}
    wrapped = {
        "epoch": 3,
        "arch": "resnet18",
        "state_dict": plain,
        "state_dict_ema": averages,
        "optimizer": {"lr": 0.1},
    }
    source = saved(tmp_path, wrapped)
    imported(source, tmp_path / "plain", use_moving_averages=False)
    imported(source, tmp_path / "averages")
    plain, averages = values_of(tmp_path / "plain"), values_of(tmp_path / "averages")
    np.testing.assert_array_equal(plain["resnet_v1_18/logits/weights"][0, 0], small.state_dict()["fc.weight"].numpy().T)
    for name, value in plain.items():
        np.testing.assert_array_equal(averages[name], value / 2)
    with pytest.raises(UserError, match="holds no moving averages"):
        imported(saved(tmp_path, small.state_dict()), tmp_path / "c", use_moving_averages=True)


def test_a_folder_of_timm_brings_its_own_numbers(tmp_path, small):
    source = tmp_path / "timm"
    source.mkdir()
    state = {name: value for name, value in small.state_dict().items() if not name.startswith("fc.")}
    safetensors_torch.save_file(state, source / "model.safetensors")
    config = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "crop_pct": 0.95, "input_size": [3, 96, 96]}
    (source / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": config}))
    imported(source, tmp_path / "ours", image_size=None)
    description = checkpoints.read_description(tmp_path / "ours")
    assert sorted(description["source"]["files"]) == ["config.json", "model.safetensors"]
    numbers = description["preprocessing"]
    assert (numbers["means"], numbers["standard_deviations"]) == ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    assert (numbers["crop_fraction"], numbers["image_size"]) == (0.95, 96)
    # Without its last layer it is a network of features.
    assert description["network"]["num_classes"] is None
    assert "resnet_v1_18/logits/weights" not in values_of(tmp_path / "ours")


def test_another_architecture_of_timm_is_refused_by_its_name(tmp_path, small):
    """The tensors of some are those of a plain network."""
    source = tmp_path / "timm"
    source.mkdir()
    safetensors_torch.save_file(small.state_dict(), source / "model.safetensors")
    for name in ("resnetblur18", "resnetaa18", "seresnet18"):
        (source / "config.json").write_text(json.dumps({"architecture": name}))
        with pytest.raises(UserError, match=f"weights are a {name}'s, as config.json says; expected a plain"):
            imported(source, tmp_path / "ours")
    (source / "config.json").write_text(json.dumps({"architecture": "gluon_resnet18_v1b"}))
    imported(source, tmp_path / "ours")


@pytest.mark.parametrize(
    "name, dtype",
    [
        ("a.pth", torch.bfloat16),
        ("a.safetensors", torch.bfloat16),
        pytest.param("a.pth", torch.float16, marks=pytest.mark.slow),
        pytest.param("a.safetensors", torch.float16, marks=pytest.mark.slow),
    ],
)
def test_weights_of_half_precision_become_float32(tmp_path, small, name, dtype):
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in small.state_dict().items()}
    save = torch.save if name == "a.pth" else safetensors_torch.save_file
    save(state, tmp_path / name)
    imported(tmp_path / name, tmp_path / "ours", verify=True)
    values = values_of(tmp_path / "ours")
    rounded = small.state_dict()["fc.weight"].to(dtype).float().numpy()
    assert values["resnet_v1_18/logits/weights"].dtype == np.float32
    np.testing.assert_array_equal(values["resnet_v1_18/logits/weights"][0, 0], rounded.T)


class Anything:
    """A class of a training program, pickled with its weights."""


def test_pickled_objects_are_not_run(tmp_path, small):
    ran = []

    class Trap:
        def __reduce__(self):
            return ran.append, (1,)

    for value in ({"model": small.state_dict(), "args": Anything()}, Trap()):
        with pytest.raises(UserError, match="more than tensors.*state_dict"):
            imported(saved(tmp_path, value), tmp_path / "ours")
    assert not ran


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_truncated_files_are_refused(tmp_path, small, name):
    path = tmp_path / name
    if name == "a.pth":
        torch.save(small.state_dict(), path)
    else:
        safetensors_torch.save_file(small.state_dict(), path)
    whole = path.read_bytes()
    for size in (len(whole) - 5000, 1000, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=f"{name} (cannot be read|is damaged)"):
            imported(path, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    "depth, model_name, message",
    [
        (18, "resnet_v1_34", "do not fit resnet_v1_34: 80 missing .*0 unexpected; they are a resnet_v1_18's"),
        (34, "resnet_v1_18", "0 missing, 80 unexpected .*they are a resnet_v1_34's: give --model_name=resnet_v1_34"),
        (18, "resnet_v1_50", "expected a network that format torchvision has: .*resnet_v1_5_50"),
    ],
)
def test_another_networks_name_is_refused_with_the_right_one(tmp_path, depth, model_name, message):
    source = saved(tmp_path, network(depth).state_dict())
    with pytest.raises(UserError, match=message):
        imported(source, tmp_path / "ours", model_name=model_name)


def test_other_architectures_under_the_same_names_are_refused(tmp_path):
    """A wide or a grouped network shares every name; a stem of three convolutions shares most."""
    state = network(18).state_dict()
    wide = {name: torch.cat([value, value]) if name.startswith("layer3") and value.ndim else value
            for name, value in state.items()}  # fmt: skip
    with pytest.raises(UserError, match=r"another shape .*block3/unit_1/basic_v1/.*no network here has these widths"):
        imported(saved(tmp_path, wide), tmp_path / "ours")
    stem = {name.replace("conv1.weight", "conv1.0.weight") if name == "conv1.weight" else name: value
            for name, value in state.items()}  # fmt: skip
    with pytest.raises(UserError, match=r"1 missing \(conv1.weight\), 1 unexpected \(conv1.0.weight\); no network"):
        imported(saved(tmp_path, stem), tmp_path / "ours")


def test_values_that_are_not_finite_are_refused(tmp_path):
    state = network(18).state_dict()
    state["layer1.0.bn1.weight"][3] = float("nan")
    with pytest.raises(UserError, match="layer1.0.bn1.weight holds values that are not finite"):
        imported(saved(tmp_path, state), tmp_path / "ours")
