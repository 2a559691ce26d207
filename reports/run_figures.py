"""The figures of a run, from the rows of its curves: loss, accuracy, learning rate and time."""

import itertools

import numpy as np

from reports.drawing import BLUE, GREEN, GREY, ORANGE, RED, new_figure, png

_MOST_POINTS = 250  # More are drawn pale, with means over stretches of them on top.
PHASE_COLORS = {
    "step": BLUE,
    "input": ORANGE,
    "summary": "#cc79a7",
    "checkpoint": RED,
    "evaluation": GREEN,
    "start": GREY,
}


def loss_figure(train, evaluations, steps_per_epoch):
    """Loss and cross-entropy by step, as PNG bytes.

    Args:
      train: Rows of kind "train" of `training.curves.read`, [] for none.
      evaluations: A dict of split -> its rows of kind "evaluation".
      steps_per_epoch: For a second axis; None for none.
    """
    figure, axes = new_figure(7.4, 3.8)
    values = [_draw_train(axes, train, "loss", GREY, "train loss, with weight decay")]
    values += [_draw_train(axes, train, "cross_entropy", BLUE, "train cross-entropy")]
    for (split, rows), color in zip(evaluations.items(), itertools.cycle((RED, GREEN)), strict=False):
        values.append(_draw_evaluations(axes, rows, "cross_entropy", color, f"{split} cross-entropy"))
    values = np.concatenate(values)
    if values.size and values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
    return _finished(figure, axes, "nats", steps_per_epoch)


def accuracy_figure(train, evaluations, steps_per_epoch):
    """Top-1 and top-5 by step; Args as `loss_figure`."""
    figure, axes = new_figure(7.4, 3.8)
    _draw_train(axes, train, "top_1", BLUE, "train top-1")
    for (split, rows), color in zip(evaluations.items(), itertools.cycle((RED, GREEN)), strict=False):
        _draw_evaluations(axes, rows, "top_1", color, f"{split} top-1")
        _draw_evaluations(axes, rows, "top_5", color, f"{split} top-5", linestyle=":", marker="")
        best = max(rows, key=lambda row: row["top_1"])
        axes.plot(best["step"], best["top_1"], "o", color=color, markersize=9, fillstyle="none")
    return _finished(figure, axes, "share of images", steps_per_epoch)


def rate_figure(train, steps_per_epoch):
    """The learning rate by step; Args as `loss_figure`."""
    figure, axes = new_figure(7.4, 2.6)
    axes.plot([row["step"] for row in train], [row["learning_rate"] for row in train], color=BLUE, **_dots(train))
    axes.set_ylim(bottom=0)
    return _finished(figure, axes, "learning rate", steps_per_epoch)


def time_figure(train, seconds):
    """Where the time of a run went, and its images per second by step.

    Args:
      train: As in `loss_figure`.
      seconds: A dict of phase -> seconds of the whole run.
    """
    figure, (shares, pace) = new_figure(7.4, 2.6, panels=2)
    total = sum(seconds.values()) or 1.0
    phases = [phase for phase in PHASE_COLORS if phase in seconds][::-1]
    bars = shares.barh(
        phases, [100 * seconds[phase] / total for phase in phases], color=[PHASE_COLORS[phase] for phase in phases]
    )
    shares.bar_label(bars, [f"{100 * seconds[phase] / total:.2f} %" for phase in phases], padding=3, fontsize=8)
    shares.set(xlabel="share of the time, %", xlim=(0, 125), xticks=range(0, 101, 25))
    shares.grid(False)
    timed = [row for row in train if row["images_per_second"]]
    pace.plot([row["step"] for row in timed], [row["images_per_second"] for row in timed], color=BLUE, **_dots(timed))
    pace.set(xlabel="step", ylabel="images/s", ylim=(0, None))
    return png(figure)


def _draw_train(axes, rows, name, color, label):
    """Draws a training curve; returns its values."""
    steps = np.array([row["step"] for row in rows], float)
    values = np.array([row[name] for row in rows], float)
    if len(rows) > _MOST_POINTS:
        axes.plot(steps, values, color=color, linewidth=0.6, alpha=0.3)
        weights = np.array([row["steps"] for row in rows], float)
        edges = np.linspace(0, len(rows), _MOST_POINTS + 1).astype(int)[:-1]
        values = np.add.reduceat(values * weights, edges) / np.add.reduceat(weights, edges)
        steps = steps[np.append(edges[1:], len(rows)) - 1]
    axes.plot(steps, values, color=color, label=label, linewidth=1.4, **_dots(rows))
    return values


def _draw_evaluations(axes, rows, name, color, label, linestyle="-", marker="o"):
    values = np.array([row[name] for row in rows], float)
    axes.plot(
        [row["step"] for row in rows],
        values,
        color=color,
        label=label,
        linestyle=linestyle,
        marker=marker,
        markersize=3,
        linewidth=1.4,
    )
    return values


def _dots(rows):
    """A line with few points shows them as dots."""
    return {"marker": "o", "markersize": 2.5} if len(rows) < 40 else {}


def _finished(figure, axes, unit, steps_per_epoch):
    axes.set(xlabel="step", ylabel=unit)
    axes.set_xlim(left=0)
    if steps_per_epoch:
        epochs = axes.secondary_xaxis(
            "top", functions=(lambda step: step / steps_per_epoch, lambda epoch: epoch * steps_per_epoch)
        )
        epochs.set_xlabel("epoch", fontsize=9, color="#5c6370")
        epochs.tick_params(labelsize=8, colors="#5c6370")
        epochs.spines["top"].set_color("#c9cdd4")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
    return png(figure)
