"""Describes a network as a table: its units with their feature map sizes, costs and receptive fields."""

import re

import tensorflow as tf

from command_line import UserError
from nets import nets_factory, receptive_field
from nets.model import multiply_adds_of


def describe(model_name, image_size=None, num_classes=None):
    """Describes a network for one image, without creating weights.

    Args:
      model_name: A name of `nets_factory.NETWORKS`.
      image_size: Height and width in pixels; None for the network's own.
      num_classes: Number of classes; None for that of the data set the network was designed for.

    Returns:
      A JSON-able dict: model_name, image_size, num_classes, parameters (those that training changes), multiply_adds,
      and rows, one for each part in order. A row has name ("conv1", "pool1", "block1/unit_1", "postnorm",
      "global_pool", "logits"), layers (convolutions and pools of the main path: name, kernel in pixels, channels,
      stride), shortcut ("identity", "projection", "identity_pad", None), input and output ([height, width, channels]),
      stride (input over output of the row), output_stride (of the network up to here; None after the pool),
      receptive_field (pixels of one side; None after the pool, where it is the whole image), parameters and
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
    """Prints a description as a table; a narrow one if 110 columns do not fit.

    Args:
      description: As `describe` returns it.
      console: A rich.console.Console.
    """
    import rich.box
    import rich.table

    narrow = console.width < 110
    texts = [_texts(row, narrow) for row in description["rows"]]
    sums = _number(description["parameters"], narrow), _number(description["multiply_adds"], narrow)
    table = rich.table.Table(
        title="{model_name} at {image_size} x {image_size} pixels, {num_classes} classes".format(**description),
        box=rich.box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0) if narrow else (0, 1),
        pad_edge=False,
        show_footer=True,
    )
    table.add_column("part", "total", no_wrap=True)
    table.add_column("layers", min_width=9)
    table.add_column("shortcut", no_wrap=True)
    for heading in list(texts[0])[3:]:
        footer = {"parameters": sums[0], "multiply-adds": sums[1]}.get(heading, "")
        table.add_column(
            heading.replace("multiply", "mult") if narrow else heading, footer, justify="right", no_wrap=True
        )
    before = None
    for row in texts:
        block = row["part"].partition("/")[0]
        if before is not None and block != before and "block" in before + block:
            table.add_section()
        before = block
        table.add_row(*row.values())
    console.print(table)
    console.print(
        "output: height x width x channels; stride: image pixels from one place of the map to the next; field: side "
        "of the receptive field in pixels; parameters: those that training changes; multiply-adds: of the "
        "convolutions, one image",
        markup=False,
    )


def _texts(row, narrow):
    """The cells of a row, by heading."""
    cells = {
        "part": row["name"],
        "layers": ", ".join(layer_text(layer) for layer in row["layers"]),
        "shortcut": row["shortcut"] or "",
        "output": "x".join(map(str, row["output"])),
        "stride": str(row["output_stride"] or "-"),
        "field": str(row["receptive_field"] or "all"),
        "parameters": _number(row["parameters"], narrow),
        "multiply-adds": _number(row["multiply_adds"], narrow),
    }
    if narrow:
        del cells["stride"]  # The sizes of the maps show it.
    return cells


def _number(value, narrow):
    return short_number(value) if narrow else f"{value:,}"


def short_number(value):
    """A count in a few characters: "3.48 G", "40.6 M", "464"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def layer_text(layer):
    """A layer in short form: "3x3 64 /2" is a 3 x 3 window, 64 channels, stride 2."""
    stride = f" /{layer['stride']}" if layer["stride"] > 1 else ""
    return f"{layer['kernel']}x{layer['kernel']} {layer['channels']}{stride}"
