"""The page of a run, made only from files in its folder: `python -m reports.run_report runs/digits-resnet_v2_50`."""

import dataclasses
import pathlib
from typing import Annotated

import tyro

import command_line
import whole_files
from command_line import UserError
from nets import checkpoints
from reports import evaluation_sections, page, run_figures
from reports.evaluation_report import FIGURES, write_figures
from training import best, curves, mistakes, run_description, run_folder
from training.config import TrainConfig
from training.meter import PHASES

FILE = "report.html"
_FIGURES = ("loss.png", "accuracy.png", "learning_rate.png", "time.png", "confusion_matrix.png", "mistakes.png")


def write(folder):
    """Writes FILE and figures/*.png into a run's folder; returns the path of FILE.

    Raises:
      UserError: If the folder holds no model.json, or a file cannot be written.
    """
    folder = pathlib.Path(folder)
    described = checkpoints.read_description(folder)
    numbers = run_description.read(folder)
    rows = curves.read(folder)
    noted = run_folder.read_evaluation(folder)
    parts, figures = _curve_sections(rows, numbers.get("steps_per_epoch"))
    scored = mistakes.read(folder)
    if scored:
        of_the_evaluation, its_figures = evaluation_sections.sections(
            scored["confusion_matrix"], described["label_names"], scored["mistakes"]
        )
        parts += [_evaluation_heading(scored), *of_the_evaluation]
        figures |= its_figures
    else:
        parts.append(page.section("evaluation", "Evaluation", page.paragraph("The network has not been scored yet.")))
    parts += [_flags_section(described["training"]), _environment_section(numbers)]
    write_figures(folder, figures)
    for name in _FIGURES:  # Left by an earlier report, which had mistakes to show.
        if name not in figures:
            (folder / FIGURES / name).unlink(missing_ok=True)
    flags = described["training"]
    title = f"{flags['model_name']} on {flags['dataset_name']}"
    facts = _facts(folder, rows, noted, numbers)
    whole_files.write(folder / FILE, page.page(title, _state(rows, noted, numbers, flags), facts, parts))
    return folder / FILE


def _state(rows, noted, numbers, flags):
    """The progress of the run, in words."""
    step = max([row["step"] for row in rows] + [noted["step"] if noted else 0])
    total = numbers.get("total_steps", step)
    epochs = f" ({step / numbers['steps_per_epoch']:.1f} epochs)" if numbers else ""
    if not noted or not noted["finished"]:
        return f"Not at its end: about step {step} of {total}{epochs}"
    if step < total and flags.get("stop_at_top_1") is not None:
        return f"Ended at step {step} of {total}{epochs}, where --stop_at_top_1={flags['stop_at_top_1']} was reached"
    return f"Finished: {step} steps{epochs}"


def _facts(folder, rows, noted, numbers):
    facts = []
    if noted:
        facts += [page.Fact(f"top-1 at step {noted['step']}", f"{noted['top_1']:.4f}")]
        facts += [
            page.Fact("top-5", f"{noted['top_5']:.4f}"),
            page.Fact("cross-entropy", f"{noted['cross_entropy']:.4f}"),
        ]
    kept = best.read(folder)
    if kept:
        facts.append(page.Fact(f"best {kept['metric'].replace('_', '-')}, step {kept['step']}", f"{kept['value']:.4f}"))
    seconds = sum(_seconds(rows).values())
    if seconds:
        facts.append(page.Fact("time on the record", _duration(seconds)))
    if numbers:
        facts += [page.Fact("parameters", f"{numbers['parameters']:,}")]
        facts += [page.Fact("training images", f"{numbers['train_images']:,}")]
        facts += [page.Fact("precision, devices", f"{numbers['precision']}, {numbers['devices']}")]
    return facts


def _curve_sections(rows, steps_per_epoch):
    train = [row for row in rows if row["kind"] == curves.TRAIN]
    evaluations = {}
    for row in rows:
        if row["kind"] == curves.EVALUATION:
            evaluations.setdefault(row["split"], []).append(row)
    if not rows:
        return [page.section("curves", "Curves", page.paragraph("No log line has been written yet."))], {}
    seconds = _seconds(rows)
    figures = {
        "loss.png": run_figures.loss_figure(train, evaluations, steps_per_epoch),
        "accuracy.png": run_figures.accuracy_figure(train, evaluations, steps_per_epoch),
        "learning_rate.png": run_figures.rate_figure(train, steps_per_epoch),
        "time.png": run_figures.time_figure(train, seconds),
    }
    scores = [
        (row["step"], split, *(f"{row[name]:.4f}" for name in ("top_1", "top_5", "cross_entropy")), row["count"])
        for split, its_rows in evaluations.items()
        for row in its_rows
    ]
    columns = ("step", "split", "top-1", "top-5", "cross-entropy", "images")
    table = page.table(columns, scores, numbers=(0, 2, 3, 4, 5))
    note = "Means over the steps of a log line; the ring is the best evaluation."
    return [
        page.section(
            "curves",
            "Curves",
            page.figure(figures["loss.png"], "Loss and cross-entropy by step"),
            page.figure(figures["accuracy.png"], "Top-1 and top-5 by step", note),
            page.figure(figures["learning_rate.png"], "Learning rate by step"),
            page.folded(f"All {len(scores)} evaluations", table) if scores else "",
        ),
        _time_section(train, seconds, figures["time.png"]),
    ], figures


def _time_section(train, seconds, png):
    total, steps = sum(seconds.values()) or 1.0, sum(row["steps"] for row in train) or 1
    rows = [
        (phase, _MEANINGS[phase], f"{spent:.2f}", f"{100 * spent / total:.2f} %", f"{1000 * spent / steps:.2f}")
        for phase, spent in seconds.items()
    ]
    rows.append(("all", f"{steps} steps", f"{total:.2f}", "100 %", f"{1000 * total / steps:.2f}"))
    columns = ("phase", "what it is", "seconds", "share", "ms a step")
    text = "Share of the time by phase, and images a second by step"
    return page.section("time", "Time", page.figure(png, text), page.table(columns, rows, numbers=(2, 3, 4)))


_MEANINGS = {
    "start": "the first batch, and the first step, which traces the network",
    "input": "waiting for batches",
    "step": "forward, backward, update",
    "summary": "log lines and curves",
    "checkpoint": "gathering what checkpoints hold, and waiting for them",
    "evaluation": "scoring, and measuring batch norm anew",
}


def _seconds(rows):
    """Seconds of each phase over all rows."""
    return {phase: sum(row["seconds"][phase] for row in rows) for phase in PHASES}


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _evaluation_heading(scored):
    text = f"What follows is the evaluation of split {scored['split']} at step {scored['step']}."
    return page.section("evaluation", "Evaluation", page.paragraph(text))


def _flags_section(flags):
    defaults = dataclasses.asdict(TrainConfig())
    set_ = [(f"--{name}", _text(value)) for name, value in flags.items() if value != defaults.get(name)]
    others = [(f"--{name}", _text(value)) for name, value in flags.items() if value == defaults.get(name)]
    return page.section(
        "config",
        "Flags",
        page.paragraph("Given, or decided by data set and network"),
        page.table(("flag", "value"), set_),
        page.folded(f"The {len(others)} flags left as they are", page.table(("flag", "value"), others)),
    )


def _text(value):
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _environment_section(numbers):
    environment = numbers.get("environment", {})
    rows = [(name, _flat(value)) for name, value in environment.items() if value not in (None, [], {})]
    note = "Of the process that trained last."
    return page.section("environment", "Environment", page.paragraph(note), page.table(("what", "value"), rows))


def _flat(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(inner)}" for name, inner in value.items() if inner not in (None, [], {}))
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclasses.dataclass(frozen=True)
class RunReportConfig:
    """Writes the page and the figures of a run again, into its folder."""

    folder: Annotated[pathlib.Path, tyro.conf.Positional]
    """Folder of the run."""


def main(config):
    """Writes the report, and prints where it is."""
    if not run_description.read(config.folder):
        raise UserError(f"{config.folder} is no folder of a run: expected one with run.json, which the trainer writes")
    print(write(config.folder))


if __name__ == "__main__":
    command_line.run(main, RunReportConfig)
