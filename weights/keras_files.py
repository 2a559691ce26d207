"""The files that Keras networks come in: HDF5 (two layouts), .keras archives, and folders of TensorFlow.js.

All are read without building the network, by layer name: "conv1_conv/kernel". The `facts` of a file are its "layers", a
list of the configurations of the layers, if it has one.
"""

import io
import json
import math
import zipfile

import h5py
import numpy as np

from command_line import UserError
from weights.foreign import Foreign, damaged

# The order in which Keras 3 numbers the weights of a layer.
_WEIGHTS_OF = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
# Other names of one and the same function in inference; the first two are of TensorFlow 1.12 to 2.0.
_NORMS = dict.fromkeys(("BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization"), "BatchNormalization")
_UNREADABLE = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError, EOFError, zipfile.BadZipFile)


def read(path):
    """Reads the weights of a Keras network.

    Args:
      path: A .h5, .weights.h5 or .keras file, or a TensorFlow.js folder (model.json and its shards).

    Returns:
      A Foreign.

    Raises:
      UserError: If the file is of another kind, incomplete or damaged.
    """
    if path.is_dir() or path.name == "model.json":
        folder = path if path.is_dir() else path.parent
        return _read_tensorflow_js(folder)
    try:
        if zipfile.is_zipfile(path):
            return _read_archive(path)
        with h5py.File(path, "r") as file:
            return Foreign(*_read_hdf5(file, path))
    except UserError:
        raise
    except _UNREADABLE as error:
        raise damaged(path, error) from error


def _read_archive(path):
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
            tensors, files, _ = _read_hdf5(file, path)
    return Foreign(tensors, files, {"layers": _flatten(config)})


def _read_hdf5(file, path):
    """Tensors, files and facts of an open HDF5 file, in Keras 3's layout or the older one."""
    if "layers" in file and "layer_names" not in file.attrs:
        return _read_numbered(file["layers"], path), [path], {}
    facts = {}
    if "model_config" in file.attrs:
        facts["layers"] = _flatten(json.loads(file.attrs["model_config"]))
    group = file.get("model_weights", file)
    tensors = {}
    for layer in group.attrs["layer_names"]:
        layer_group = group[_text(layer)]
        for name in map(_text, layer_group.attrs["weight_names"]):
            # Nested networks put their own names in front.
            tensors["/".join(name.split(":")[0].split("/")[-2:])] = np.asarray(layer_group[name])
    return tensors, [path], facts


def _read_numbered(layers, path):
    """Keras 3 numbers layers by their class; their names are stored beside the weights."""
    tensors = {}

    def visit(name, item):
        if not (isinstance(item, h5py.Group) and name.endswith("vars") and len(item)):
            return
        if "name" not in item.attrs:
            raise UserError(
                f"{path} does not name its layers, as Keras before 3.3 wrote it: load it there and save a .h5 file"
            )
        # Those of another number are no layer's here, and named so that they are reported.
        for number, weight in enumerate(_WEIGHTS_OF.get(len(item), map(str, range(len(item))))):
            tensors[f"{item.attrs['name']}/{weight}"] = np.asarray(item[str(number)])

    layers.visititems(visit)
    return tensors


def _read_tensorflow_js(folder):
    manifest = folder / "model.json"
    if not manifest.is_file():
        raise UserError(f"no model.json in folder {folder}; expected a TensorFlow.js layers model with its shards")
    files, tensors = [manifest], {}
    try:
        model = json.loads(manifest.read_text(encoding="utf-8"))
        topology = model["modelTopology"]
        for group in model["weightsManifest"]:
            shards = [folder / name for name in group["paths"]]
            tensors |= _cut_shards(shards, group["weights"], manifest)
            files += shards
        layers = _flatten(topology.get("model_config", topology))
    except UserError:
        raise
    except _UNREADABLE as error:
        raise damaged(manifest, error) from error
    return Foreign(tensors, files, {"layers": layers})


def _cut_shards(shards, weights, manifest):
    """Cuts the weights of a group out of its shards, which together hold one weight after another."""
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise UserError(f"{manifest} names shards that are not there: {', '.join(missing)}; take a whole copy")
    strange = [weight["name"] for weight in weights if weight["dtype"] != "float32" or "quantization" in weight]
    if strange:
        raise UserError(f"{manifest}: {strange[0]} is quantized; take the copy with float32 weights")
    buffer = b"".join(shard.read_bytes() for shard in shards)
    wanted = 4 * sum(math.prod(weight["shape"]) for weight in weights)
    if len(buffer) != wanted:
        raise UserError(
            f"the shards beside {manifest} hold {len(buffer):,} bytes where it lists {wanted:,}; take another copy"
        )
    tensors, start = {}, 0
    for weight in weights:
        count = math.prod(weight["shape"])
        name = "/".join(weight["name"].split("/")[-2:])
        tensors[name] = np.frombuffer(buffer, "<f4", count, start).reshape(weight["shape"])
        start += 4 * count
    return tensors


def _flatten(config):
    """The configurations of all layers, {"class_name", "name", ...}, in the file's order."""
    if "layers" not in config.get("config", {}):
        kind = config["class_name"]
        return [{"class_name": _NORMS.get(kind, kind), **config["config"]}]
    return [layer for inner in config["config"]["layers"] for layer in _flatten(inner)]


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)
