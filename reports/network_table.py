"""A network as a table: its units with the size of their maps, what they cost and what they see."""

import re

import tensorflow as tf

from command_line import UserError
from nets import nets_factory, receptive_field
from nets.model import multiply_adds_of


def describe(model_name, image_size=None, num_classes=None):
    """Describes a network for one image, without making weights.

    Args:
      model_name: A name of `nets_factory.NETWORKS`.
      image_size: Height and width in pixels; None for the network's own.
      num_classes: Classes; None for those of the data set the network was designed for.

    Returns:
      A JSON-able dict: model_name, image_size, num_classes, parameters (those that training changes), multiply_adds,
      and rows, one for each part in order. A row has name ("conv1", "pool1", "block1/unit_1", "postnorm",
      "global_pool", "logits"), layers (convolutions and pools of the main path: name, kernel in pixels, channels,
      stride), shortcut ("identity", "projection", "identity_pad", None), input and output ([height, width, channels]),
      stride (input over output of the row), output_stride (of the network up to here; None behind the pool),
      receptive_field (pixels of one side; None behind the pool, where it is the whole image), parameters and
      multiply_adds.

    Raises:
      UserError: If the name is unknown, or a number is not positive.
    """
    network = nets_factory.find_network(model_name)
    size = network.default_image_size if image_size is None else image_size
    classes = network.default_num_classes if num_classes is None else num_classes
    for flag, value in (("image_size", size), ("num_classes", classes)):
        if value < 1:
            raise UserError(f"--{flag} is {value}, expected at least 1")
    traced = receptive_field.trace(model_name, classes, size)
    rows = _rows(traced, model_name, [size, size, 3])
    return {
        "model_name": model_name,
        "image_size": size,
        "num_classes": classes,
        "parameters": sum(row["parameters"] for row in rows),
        "multiply_adds": sum(row["multiply_adds"] for row in rows),
        "rows": rows,
    }


def _rows(traced, scope, shape):
    rows = []
    for name, tensor in _parts(traced, scope):
        row = _row(traced, f"{scope}/{name}/", name, shape, tensor)
        rows.append(row)
        shape = row["output"]
    return rows


def _parts(traced, scope):
    """Yields the name and the output of each part, in order."""
    graph, end_points = traced.graph, traced.end_points
    operations = {operation.name: operation for operation in graph.get_operations()}
    yield "conv1", end_points[f"{scope}/conv1"]
    if f"{scope}/pool1/MaxPool" in operations:
        yield "pool1", operations[f"{scope}/pool1/MaxPool"].outputs[0]
    for name, tensor in end_points.items():
        unit = re.fullmatch(rf"{scope}/(block\d+/unit_\d+)/\w+", name)
        if unit:
            yield unit[1], tensor
    if f"{scope}/postnorm/Relu" in operations:
        yield "postnorm", operations[f"{scope}/postnorm/Relu"].outputs[0]
    yield "global_pool", end_points["global_pool"]
    yield "logits", end_points[f"{scope}/logits"]


def _row(traced, prefix, name, shape, tensor):
    operations = [operation for operation in traced.graph.get_operations() if operation.name.startswith(prefix)]
    variables = traced.graph.get_collection(tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES)
    output = [int(size) for size in tensor.shape[1:]]
    field = traced.fields.get(tensor.name)
    layers = [_layer(operation, prefix) for operation in operations if operation.type == "Conv2D"]
    layers += [_layer(operation, prefix) for operation in operations if name == "pool1" and operation.type == "MaxPool"]
    is_unit = "/unit_" in name
    return {
        "name": name,
        "layers": [layer for layer in layers if layer["name"] != "shortcut"],
        "shortcut": _shortcut(layers, shape, output) if is_unit else None,
        "input": shape,
        "output": output,
        "stride": -(-shape[0] // output[0]),
        "output_stride": field and field.stride,
        "receptive_field": field and field.size,
        "parameters": sum(int(v.shape.num_elements()) for v in variables if v.name.startswith(prefix)),
        "multiply_adds": sum(map(multiply_adds_of, operations)),
    }


def _layer(operation, prefix):
    is_convolution = operation.type == "Conv2D"
    scope = operation.name.removeprefix(prefix).rpartition("/")[0]
    return {
        "name": scope.rpartition("/")[2] or prefix.rstrip("/").rpartition("/")[2],
        "kernel": int(operation.inputs[1].shape[0] if is_convolution else operation.get_attr("ksize")[1]),
        "channels": int(operation.outputs[0].shape[-1]),
        "stride": int(operation.get_attr("strides")[1]),
    }


def _shortcut(layers, shape, output):
    if any(layer["name"] == "shortcut" for layer in layers):
        return "projection"
    return "identity" if shape[-1] == output[-1] else "identity_pad"


def print_table(description, console):
    """Prints a description as a table.

    Args:
      description: As `describe` gives it.
      console: A rich.console.Console.
    """
    import rich.box
    import rich.table

    table = rich.table.Table(
        title="{model_name} at {image_size} x {image_size} pixels, {num_classes} classes".format(**description),
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        show_footer=True,
    )
    table.add_column("part", "total", no_wrap=True)
    table.add_column("layers")
    table.add_column("shortcut")
    for heading, footer in (
        ("output", ""),
        ("stride", ""),
        ("field", ""),
        ("parameters", f"{description['parameters']:,}"),
        ("multiply-adds", f"{description['multiply_adds']:,}"),
    ):
        table.add_column(heading, footer, justify="right", no_wrap=True)
    before = None
    for row in description["rows"]:
        block = row["name"].partition("/")[0]
        if before is not None and block != before and "block" in before + block:
            table.add_section()
        before = block
        table.add_row(*_texts(row))
    console.print(table)
    console.print(
        "output: height x width x channels; stride: image pixels from one place of the map to the next; field: side "
        "of the\nreceptive field in pixels; parameters: those that training changes; multiply-adds: of the "
        "convolutions, one image",
        markup=False,
    )


def _texts(row):
    layers = ", ".join(layer_text(layer) for layer in row["layers"])
    return (
        row["name"],
        layers,
        row["shortcut"] or "",
        "x".join(map(str, row["output"])),
        str(row["output_stride"] or "-"),
        str(row["receptive_field"] or "all"),
        f"{row['parameters']:,}",
        f"{row['multiply_adds']:,}",
    )


def layer_text(layer):
    """A layer in few words: "3x3 64 /2" is a window of 3 x 3, 64 channels, stride 2."""
    stride = f" /{layer['stride']}" if layer["stride"] > 1 else ""
    return f"{layer['kernel']}x{layer['kernel']} {layer['channels']}{stride}"
