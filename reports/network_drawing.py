"""Draws a network as a schematic: a column for each block, a box for each layer, each feature map with its size.

Equal units of a block are drawn once, with their number.
"""

import itertools
import pathlib
from typing import NamedTuple

import matplotlib
import matplotlib.figure
import matplotlib.patches

from command_line import UserError
from reports.network_table import short_number
from whole_files import written_whole

ENDINGS = (".svg", ".png", ".pdf")
_DOTS_PER_INCH = 120
# Inches.
_COLUMN, _GAP, _BOX, _BOX_HEIGHT, _STEP = 2.6, 0.5, 1.25, 0.27, 0.46
_TOP, _TITLE, _PITCH = 1.45, 0.38, 0.42
_COLORS = {"conv": "#cfe2f3", "projection": "#fce5cd", "pool": "#d9ead3", "norm": "#eeeeee", "head": "#ead1dc"}
_LINE, _QUIET = "#333333", "#666666"


class Group(NamedTuple):
    """Consecutive units of one block that are alike.

    Attributes:
      rows: Their rows from `network_table.describe`.
      first: Number of the first unit.
    """

    rows: list
    first: int

    @property
    def title(self):
        """Which units of the block they are, and how many."""
        count = len(self.rows)
        if count == 1:
            return f"unit {self.first}"
        return f"units {self.first} to {self.first + count - 1}   \N{MULTIPLICATION SIGN} {count}"

    @property
    def field(self):
        """The receptive field of their outputs."""
        first, last = (self.rows[index]["receptive_field"] for index in (0, -1))
        return f"sees {first} px" if first == last else f"sees {first} to {last} px"


def check_output(path):
    """Raises a UserError unless the path ends in one of ENDINGS."""
    if pathlib.Path(path).suffix not in ENDINGS:
        raise UserError(f"--output is {path}, expected a name that ends in {', '.join(ENDINGS)}")


def groups_of(rows):
    """Groups consecutive units that are alike.

    Args:
      rows: Rows from `network_table.describe` for the units of one block.

    Returns:
      A list of Group.
    """
    groups, number = [], 1
    for _, alike in itertools.groupby(rows, _look):
        alike = list(alike)
        groups.append(Group(alike, number))
        number += len(alike)
    return groups


def _look(row):
    return row["layers"], row["shortcut"], row["input"], row["output"]


def draw(description, path):
    """Writes the schematic.

    Args:
      description: As `network_table.describe` returns it.
      path: A file name with one of ENDINGS.
    """
    path = pathlib.Path(path)
    rows = description["rows"]
    units = [row for row in rows if "/unit_" in row["name"]]
    blocks = {name: list(group) for name, group in itertools.groupby(units, lambda row: row["name"].split("/")[0])}
    names = [row["name"] for row in rows]
    before, behind = rows[: names.index(units[0]["name"])], rows[names.index(units[-1]["name"]) + 1 :]
    preactivated = any(row["name"] == "postnorm" for row in rows)
    columns = [_Column("root", before[0]["input"], [], before, preactivated)]
    for name, block in blocks.items():
        columns.append(_Column(name, block[0]["input"], block, [], preactivated))
    columns.append(_Column("head", behind[0]["input"], [], behind, preactivated))

    height = _TOP + max(column.height for column in columns) + 0.5
    width = len(columns) * (_COLUMN + _GAP) + _GAP
    figure = matplotlib.figure.Figure(figsize=(width, height), dpi=_DOTS_PER_INCH)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    _text(axes, _GAP, 0.35, _title(description), size=13, weight="bold", ha="left")
    ends = []
    for index, column in enumerate(columns):
        ends.append(column.draw(axes, _GAP + index * (_COLUMN + _GAP)))
    for (x, bottom), (next_x, _) in itertools.pairwise(ends):
        gutter = next_x - _COLUMN / 2 - _GAP / 2
        low, high = height - 0.25, _TOP - 0.2
        turns = [(x, bottom), (x, low), (gutter, low), (gutter, high), (next_x, high), (next_x, _TOP)]
        axes.plot(*zip(*turns, strict=True), color=_LINE, linewidth=1.0, solid_joinstyle="round")
    # Without a date and with names of our own for what is drawn twice: equal networks give equal files.
    with written_whole(path) as part, matplotlib.rc_context({"svg.hashsalt": description["model_name"]}):
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(part, format=path.suffix[1:], metadata=metadata)


def _title(description):
    return (
        "{model_name}: {image_size} \N{MULTIPLICATION SIGN} {image_size} pixels, {num_classes} classes, {parameters:,} "
        "parameters, {multiply_adds:,} multiply-adds"
    ).format(**description)


class _Column:
    """A block, the root or the head: a heading, and its parts below from top to bottom."""

    def __init__(self, name, shape, units, layers, preactivated):
        self._name, self._shape, self._preactivated = name, shape, preactivated
        self._units, self._groups, self._layers = units, groups_of(units), layers
        self.height = sum(map(self._height_of, self._groups)) + sum(2 * _STEP for _ in layers)

    def _height_of(self, group):
        return _TITLE + (len(group.rows[0]["layers"]) + self._preactivated) * _PITCH + 0.9

    def draw(self, axes, left):
        """Draws with the left side at `left`; returns where the flow leaves."""
        x = left + 0.44 * _COLUMN
        rows = self._units or self._layers
        parameters = sum(row["parameters"] for row in rows)
        work = sum(row["multiply_adds"] for row in rows)
        count = f"{len(self._units)} units, " if self._units else ""
        _text(axes, left, _TOP - 0.58, self._name, weight="bold", size=11, ha="left")
        note = f"{count}{short_number(parameters)} parameters, {short_number(work)} multiply-adds"
        _text(axes, left, _TOP - 0.38, note, size=7, ha="left", color=_QUIET)
        y = _TOP
        if self._name == "root":
            _text(axes, x, y - 0.1, f"image {_size(self._shape)}", size=8)
        for layer in self._layers:
            y = self._draw_layer(axes, x, y, layer)
        for group in self._groups:
            y = self._draw_group(axes, left, x, y, group)
        return x, y

    def _draw_layer(self, axes, x, y, row):
        kind = {"conv1": "conv", "pool1": "pool", "global_pool": "pool", "postnorm": "norm"}.get(row["name"], "head")
        text = {"global_pool": "mean over the map", "postnorm": "norm, ReLU"}.get(row["name"])
        if text is None:
            what = "max pool" if row["name"] == "pool1" else "conv"
            text = ", ".join(_layer_text(layer, what) for layer in row["layers"])
        box = y + _STEP
        _arrow(axes, (x, y), (x, box - _BOX_HEIGHT / 2))
        _box(axes, x, box, text, kind)
        below = box + _BOX_HEIGHT / 2
        axes.plot([x, x], [below, y + 2 * _STEP], color=_LINE, linewidth=1.0)
        _text(axes, x + 0.08, below + 0.14, _size(row["output"]), size=7.5, ha="left")
        return y + 2 * _STEP

    def _draw_group(self, axes, left, x, top, group):
        row, right = group.rows[0], left + 0.84 * _COLUMN
        bottom = top + self._height_of(group)
        frame = (left, top + 0.1), _COLUMN, bottom - top - 0.45
        axes.add_patch(
            matplotlib.patches.FancyBboxPatch(
                *frame,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor="#fafafa",
                edgecolor="#bbbbbb",
                linewidth=0.8,
            )
        )
        _text(axes, left + _COLUMN - 0.08, top + 0.22, group.title, size=8, weight="bold", ha="right")
        y = fork = top + _TITLE
        if self._preactivated:
            y = _stacked(axes, x, y, "norm, ReLU", "norm")
            if row["shortcut"] == "projection":  # It starts from the pre-activation, not from the unit's input.
                fork = y + 0.05
        for layer in row["layers"]:
            y = _stacked(axes, x, y, _layer_text(layer, "conv"), "conv")
        plus = y + 0.28
        _arrow(axes, (x, y), (x, plus - 0.09))
        axes.plot([x, x], [top, top + _TITLE], color=_LINE, linewidth=1.0)
        self._draw_shortcut(axes, x, right, fork, plus, row)
        axes.add_patch(matplotlib.patches.Circle((x, plus), 0.09, facecolor="white", edgecolor=_LINE, zorder=3))
        _text(axes, x, plus, "+", size=9, zorder=4)
        if not self._preactivated:
            _text(axes, x - 0.14, plus, "ReLU", size=6.5, ha="right", color=_QUIET)
        axes.plot([x, x], [plus + 0.09, bottom], color=_LINE, linewidth=1.0)
        _text(axes, x + 0.08, bottom - 0.2, _size(row["output"]), size=7.5, ha="left")
        _text(axes, left + 0.03, bottom - 0.2, group.field, size=6.5, ha="left", color=_QUIET)
        return bottom

    def _draw_shortcut(self, axes, x, right, fork, plus, row):
        axes.plot([x, right, right], [fork, fork, plus], color=_LINE, linewidth=1.0)
        _arrow(axes, (right, plus), (x + 0.09, plus))
        middle = (fork + plus) / 2
        stride = f" /{row['stride']}" if row["stride"] > 1 else ""
        kind = {
            "projection": f"1\N{MULTIPLICATION SIGN}1 conv{stride}",
            "identity": f"identity{stride}",
            "identity_pad": f"identity{stride}\nzero-padded",
        }[row["shortcut"]]
        color = _COLORS["projection"] if row["shortcut"] == "projection" else "white"
        _text(
            axes,
            right,
            middle,
            f"{kind}\n{_size(row['output'])}",
            size=6.5,
            bbox={"boxstyle": "round,pad=0.25", "facecolor": color, "edgecolor": "#bbbbbb", "linewidth": 0.6},
            zorder=4,
        )


def _stacked(axes, x, y, text, kind):
    """Draws an arrow and a box below it; returns the y at which the flow leaves the box."""
    middle = y + _PITCH - _BOX_HEIGHT / 2
    _arrow(axes, (x, y), (x, middle - _BOX_HEIGHT / 2))
    _box(axes, x, middle, text, kind)
    return middle + _BOX_HEIGHT / 2


def _box(axes, x, y, text, kind):
    corner = x - _BOX / 2, y - _BOX_HEIGHT / 2
    axes.add_patch(
        matplotlib.patches.FancyBboxPatch(
            corner,
            _BOX,
            _BOX_HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor=_COLORS[kind],
            edgecolor=_LINE,
            linewidth=0.8,
            zorder=3,
        )
    )
    _text(axes, x, y, text, size=8, zorder=4)


def _arrow(axes, start, end):
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": _LINE, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
    )


def _text(axes, x, y, text, size=8.0, ha="center", **options):
    axes.text(x, y, text, fontsize=size, ha=ha, va="center", **options)


def _layer_text(layer, what):
    stride = f" /{layer['stride']}" if layer["stride"] > 1 else ""
    return f"{layer['kernel']}\N{MULTIPLICATION SIGN}{layer['kernel']} {what}, {layer['channels']}{stride}"


def _size(shape):
    return "\N{MULTIPLICATION SIGN}".join(map(str, shape))
