"""Writes the golden lists: the names, shapes and roles of the variables of every network.

    python tests/nets/make_golden.py            # from the repository's root; writes tests/nets/golden/<network>.json

Checkpoints hold these names, so a list changes only when that is meant. `test_golden.py` holds every list against the
papers' tables and published parameter counts; it is never right because this script wrote it.
"""

import json
import math
import pathlib
import sys

import tensorflow as tf

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from nets import nets_factory

GOLDEN = pathlib.Path(__file__).parent / "golden"


def num_classes_of(name):
    """The number of classes of the data set that the network was published for."""
    return 10 if "_cifar_" in name else 1000


def asked_for(build, scope):
    """What `build()` asks for: names, without `scope`, -> (shape, trainable), in order; no variable is made."""
    asked = {}

    def record(getter, name, shape=None, dtype=tf.float32, trainable=True, **unused):
        asked[name.removeprefix(f"{scope}/")] = (tuple(shape), bool(trainable))
        return tf.compat.v1.placeholder(dtype, shape)

    with tf.Graph().as_default(), tf.compat.v1.variable_scope("", custom_getter=record):
        build()
    return asked


def variables_of(name, num_classes=None, **network_arguments):
    """What a network of ours asks for, as `asked_for` gives it."""
    network_fn = nets_factory.get_network_fn(name, num_classes or num_classes_of(name))
    size = network_fn.default_image_size
    return asked_for(lambda: network_fn(tf.zeros([1, size, size, 3]), **network_arguments), name)


def count(variables, trainable):
    """The number of values of the variables that are trainable, or of those that are not."""
    return sum(math.prod(shape) for shape, role in variables.values() if role == trainable)


def read(name):
    """The golden list of a network, as `asked_for` gives it, and its recorded counts."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    roles = (("trainable", True), ("moving", False))
    variables = {key: (tuple(shape), role) for part, role in roles for key, shape in golden[part].items()}
    return variables, golden


def write(name):
    variables = variables_of(name)
    head = {
        "network": name,
        "num_classes": num_classes_of(name),
        "trainable_parameters": count(variables, True),
        "moving_statistics": count(variables, False),
    }
    lines = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
    for part, role in (("trainable", True), ("moving", False)):
        rows = [f'"{key}": {list(shape)}' for key, (shape, trainable) in variables.items() if trainable == role]
        lines.append(f'"{part}": {{\n' + ",\n".join(rows) + "\n}")
    (GOLDEN / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main():
    GOLDEN.mkdir(exist_ok=True)
    for name in nets_factory.NETWORKS:
        write(name)
        print(name)


if __name__ == "__main__":
    main()
