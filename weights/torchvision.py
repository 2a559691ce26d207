"""ResNets of torchvision, and of timm under the same names: PyTorch state dicts in .pth or .safetensors files.

Both put the stride of a bottleneck into the 3x3 of a block's first unit: v1.5. No pickled code is ever run.

Sources: https://github.com/pytorch/vision/blob/main/torchvision/models/resnet.py,
https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/resnet.py.
"""

import json
import pickle
import re

import numpy as np

from command_line import UserError
from weights import targets
from weights.foreign import Foreign, check_exists, damaged, require
from weights.places import NORM, list_places, quantities

MODEL_NAMES = (
    *(f"resnet_v1_{depth}" for depth in (18, 34)),
    *(f"resnet_v1_5_{depth}" for depth in (50, 101, 152, 200)),
)
EPSILON = 1e-5
SUFFIXES = (".pth", ".safetensors")
LEAVES = {
    "weights": "weight",
    "biases": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_PLAIN, _AVERAGED = ("state_dict", "model"), ("state_dict_ema", "model_ema")
_WRAPPERS = ("module.", "_orig_mod.")  # Of parallel and of compiled modules.
_COUNTERS = ("num_batches_tracked", "n_averaged")
# timm's names: resnet50, and those under which it keeps older weights of the same network.
_PLAIN_ARCHITECTURE = re.compile(r"(tv_|ssl_|swsl_|gluon_)?resnet\d*(_v1b)?")


def read(path, use_moving_averages):
    """Reads a state dict, bare or as training programs wrap it ("state_dict", "model", and their averages "..._ema").

    Args:
      path: A .pth (.pt, .tar, .bin) or .safetensors file, or a folder as timm publishes it: model.safetensors or
        pytorch_model.bin, with config.json.
      use_moving_averages: Whether to take the averages; None takes them if the file has them, as timm does.

    Returns:
      A Foreign, whose facts are timm's "architecture" and "pretrained_cfg" where a config.json has them, and "shadows":
      whether the averages were taken.

    Raises:
      UserError: If the file is damaged, holds more than tensors, or an extra is missing.
    """
    check_exists(path)
    facts, files = {}, []
    if path.is_dir():
        # Its config.json decides the preprocessing.
        files = [file for file in (path / "config.json",) if file.is_file()]
        facts, path = _open_folder(path)
    is_safetensors = path.suffix == ".safetensors"
    state = _read_safetensors(path) if is_safetensors else _read_pickle(path)
    saved = state
    state = _unwrap(path, saved, use_moving_averages)
    facts["shadows"] = any(state is saved.get(key) for key in _AVERAGED)
    tensors = {}
    for name, value in state.items():
        while name.startswith(_WRAPPERS):
            name = name.partition(".")[2]
        if not name.endswith(_COUNTERS):
            tensors[name] = value if is_safetensors else value.detach().float().numpy()
    return Foreign(tensors, [path, *files], facts)


def _open_folder(folder):
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            config = folder / "config.json"
            try:
                facts = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
            except ValueError as error:
                raise damaged(config, error) from error
            return {key: facts[key] for key in ("architecture", "pretrained_cfg") if key in facts}, folder / name
    raise UserError(f"no model.safetensors or pytorch_model.bin in folder {folder}; give the file itself")


def _read_safetensors(path):
    safetensors = require("safetensors", "safetensors", f"reading {path}")
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError, TypeError, ValueError, KeyError) as error:
        raise damaged(path, error) from error


def _read_pickle(path):
    torch = require("torch", "torch", f"reading {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged, or holds more than tensors, which could run code when read: save model.state_dict() "
            "alone, as .safetensors at best"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise damaged(path, error) from error


def _unwrap(path, state, use_moving_averages):
    """The state dict within what a training program saved."""
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, expected a state dict: a dict of name -> tensor")
    keys = {True: _AVERAGED, False: _PLAIN, None: (*_AVERAGED, *_PLAIN)}[use_moving_averages]
    inner = next((state[key] for key in keys if isinstance(state.get(key), dict)), None)
    if inner is None and use_moving_averages:
        raise UserError(f"{path} holds no moving averages ({', '.join(_AVERAGED)}); leave out --use_moving_averages")
    state = state if inner is None else inner
    if not state or not all(hasattr(value, "shape") for value in state.values()):
        raise UserError(f"{path} holds no state dict, but {', '.join(map(str, list(state)[:6])) or 'nothing'}")
    return state


def projections(structure):
    """Where the shortcuts are convolutions; see `layouts.make_block`."""
    return "where_shapes_differ"


def names(structure, tensors, projections):
    """Maps (place, quantity) to the name in a state dict."""
    return {
        (place, quantity): f"{_module(place, quantity)}.{LEAVES[quantity]}"
        for place in list_places(structure, projections)
        for quantity in quantities(structure, place)
    }


def _module(place, quantity):
    if place.role == "logits":
        return "fc"
    if place.role == "shortcut":
        return f"layer{place.block}.{place.unit - 1}.downsample.{int(quantity in NORM)}"
    module = place.role.replace("conv", "bn") if quantity in NORM else place.role
    return f"layer{place.block}.{place.unit - 1}.{module}" if place.block else module


def to_ours(place, quantity, value):
    """A value in our layout: PyTorch's kernels are [output, input, height, width], its dense ones [output, input]."""
    if quantity != "weights":
        return value
    return value.T[None, None] if value.ndim == 2 else value.transpose(2, 3, 1, 0)


def from_ours(place, quantity, value):
    """The inverse of `to_ours`."""
    if quantity != "weights":
        return value
    return value[0, 0].T if place.role == "logits" else value.transpose(3, 2, 0, 1)


def settings(structure, source):
    """Arguments of `create_model`: the root pool is padded on both sides.

    Raises:
      UserError: If timm's config.json names another architecture; some share every tensor (resnetaa50, resnetblur50).
    """
    architecture = source.facts.get("architecture", "resnet")
    if not _PLAIN_ARCHITECTURE.fullmatch(architecture):
        raise UserError(f"the weights are a {architecture}'s, as config.json says; expected a plain resnet of timm's")
    return {"root_pool_padding": "symmetric"}


def preprocessing(structure, source):
    """Name and numbers of the preprocessing, and the image size; timm's config.json may name its own."""
    config = source.facts.get("pretrained_cfg", {})
    numbers = {
        "means": config.get("mean"),
        "standard_deviations": config.get("std"),
        "crop_fraction": config.get("test_crop_pct") or config.get("crop_pct"),
    }
    numbers = {key: tuple(value) if isinstance(value, list) else value for key, value in numbers.items() if value}
    size = config.get("test_input_size") or config.get("input_size") or [3, 224, 224]
    return "torchvision", numbers, size[-1]


def reverse_channels(structure, preprocessing_name):
    """Whether the network expects BGR: never."""
    return False


def run_source(structure, source, inputs, preprocessing):
    """Runs a plain PyTorch ResNet that loads the state dict strictly; see `verification.compare`.

    Returns:
      What was run, and its logits.
    """
    torch = require("torch", "torch", "--verify")
    from weights import torch_resnet

    state = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in source.tensors.items()}
    return f"PyTorch {torch.__version__}", torch_resnet.run(structure, state, inputs)


def check_target(structure, settings, image_size):
    """Raises a UserError if no network of torchvision (or, with 200 layers, timm) computes what ours does."""
    targets.check(
        structure,
        settings,
        image_size,
        library="torchvision",
        has=structure.version == 1 and not structure.cifar,
        stride_placement="first_unit",
        root_pool_padding="symmetric",
    )


def write(path, structure, tensors, num_classes, preprocessing):
    """Writes a state dict, with the batch counters that PyTorch's norms keep."""
    state = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    for name in tensors:
        if name.endswith("running_mean"):
            state[name.replace("running_mean", "num_batches_tracked")] = np.zeros([], np.int64)
    if path.suffix == ".safetensors":
        require("safetensors", "safetensors", f"writing {path}")
        from safetensors.numpy import save_file

        save_file(state, path, metadata={"format": "pt"})
    else:
        torch = require("torch", "torch", f"writing {path}")
        torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
