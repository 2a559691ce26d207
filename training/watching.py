"""Watches a run's folder from another process, and scores each checkpoint once, as it appears."""

import json
import os
import pathlib
import time

from command_line import UserError, check_at_least

LINES = "evaluations.jsonl"
_SECONDS_BETWEEN_LOOKS = 1.0


def watch(config, show=lambda text: None):
    """Scores the checkpoints in a folder until its run ends, or none has appeared for long enough.

    Checkpoints that an earlier, stopped watcher scored are not scored again, unless the data, the flags or the file
    differ. A checkpoint that the run deletes while others are scored is skipped. The best one by the run's
    --best_metric is kept in the folder best/ of --eval_dir.

    Args:
      config: An evaluate_checkpoint.EvalConfig; checkpoint_path is the run's folder, which need not exist yet.
      show: Called with a line for each checkpoint.

    Returns:
      The lines of LINES that were scored with this watcher's settings, a list of dicts in the order of the steps: step,
      checkpoint, dataset, split, count, top_1, top_5, cross_entropy; how (as `Scorer.how`) and saved (when the
      checkpoint was written, in nanoseconds since 1970).

    Raises:
      UserError: If a flag, a checkpoint or the data is bad, or no checkpoint appeared at all.
    """
    import tensorflow as tf

    from nets import checkpoints
    from training import best, run_folder
    from training.evaluate_checkpoint import Scorer

    folder = pathlib.Path(config.checkpoint_path)
    if folder.is_file() or (not folder.exists() and list(folder.parent.glob(f"{folder.name}.index"))):
        raise UserError(f"--watch needs the folder of a run, but --checkpoint_path is {folder}")
    for flag in ("predictions", "report"):
        if getattr(config, flag):
            raise UserError(f"--watch scores many checkpoints, --{flag} holds one: give one of the two")
    check_at_least(config, watch_timeout_secs=0)
    scorer, lines = None, None
    looked_at = time.monotonic()
    while True:
        # The end is read before the folder, so that checkpoints from before the end are also seen.
        noted = run_folder.read_evaluation(folder)
        steps = checkpoints.steps_in(folder)
        if steps and scorer is None:
            scorer = Scorer(config, str(run_folder.checkpoint_prefix(folder, steps[-1])))
            eval_dir = config.eval_dir or folder / f"eval_{scorer.split}"
            eval_dir.mkdir(parents=True, exist_ok=True)
            lines = {line["step"]: line for line in _read(eval_dir / LINES) if line.get("how") == scorer.how}
            writer = tf.summary.create_file_writer(str(eval_dir))
            if not lines:
                best.forget(eval_dir)
        prefixes = {step: run_folder.checkpoint_prefix(folder, step) for step in steps}
        saved = {step: _saved(prefix) for step, prefix in prefixes.items()}
        new = [step for step in steps if saved[step] and (step not in lines or lines[step]["saved"] != saved[step])]
        if new:
            line = _score(scorer, prefixes[new[0]], new[0])
            if line is not None:
                lines[line["step"]] = line
                # First, since a checkpoint with a line is not looked at again by a watcher that takes over.
                if scorer.best_metric != "none":
                    best.keep(eval_dir, prefixes[new[0]], line["step"], line, scorer.best_metric, line["split"])
                _add(line, eval_dir / LINES, writer)
                show(
                    f"step {line['step']}: {line['split']} top-1 {line['top_1']:.4f}, top-5 {line['top_5']:.4f}, "
                    f"cross-entropy {line['cross_entropy']:.4f} ({line['count']} images)"
                )
            looked_at = time.monotonic()
        elif noted and noted["finished"] and lines is not None:
            break
        elif time.monotonic() - looked_at >= config.watch_timeout_secs:
            if lines is None:
                raise UserError(f"no checkpoint came into {folder} in {config.watch_timeout_secs:g} seconds")
            show(f"no new checkpoint in {config.watch_timeout_secs:g} seconds")
            break
        else:
            time.sleep(min(_SECONDS_BETWEEN_LOOKS, config.watch_timeout_secs))
    return [line for _, line in sorted((lines or {}).items())]


def _saved(prefix):
    """When a checkpoint was written, in nanoseconds since 1970; None if it is there no more.

    A run deletes the index of a checkpoint last.
    """
    try:
        saved = os.stat(f"{prefix}.index").st_mtime_ns
    except FileNotFoundError:
        return None
    return saved if list(prefix.parent.glob(f"{prefix.name}.data-*")) else None


def _score(scorer, prefix, step):
    """The line of a checkpoint; None if it no longer exists."""
    saved = _saved(prefix)
    try:
        result = scorer.score(str(prefix))
    except UserError:
        if _saved(prefix) is not None:
            raise
        return None
    names = ("checkpoint", "dataset", "split", "count", "top_1", "top_5", "cross_entropy")
    return {"step": step, **{name: result[name] for name in names}, "how": scorer.how, "saved": saved}


def _read(path):
    """The lines of an earlier watcher; one that was cut off when it ended is dropped."""
    lines = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                # The cut-off text must not stay before the next line.
                path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
                break
    return lines


def _add(line, path, writer):
    import tensorflow as tf

    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{json.dumps(line)}\n")
    with writer.as_default():
        for name in ("top_1", "top_5", "cross_entropy"):
            tf.summary.scalar(f"{line['split']}/{name}", line[name], line["step"])
    writer.flush()
