"""Scores a checkpoint on a data set: one pass, every record once.

    python eval_image_classifier.py --checkpoint_path=runs/digits-resnet_v2_50

With --watch it scores each checkpoint of a training run in progress, until the run ends. Network, preprocessing, image
size and labels come from the model.json beside the checkpoint. `--help` lists all flags.
"""

import command_line
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint
from whole_files import write_json


def main(config):
    """Scores, prints, and writes what was asked for."""
    from training.evaluation import describe
    from training.watching import watch

    if config.watch:
        result = watch(config, show=lambda text: print(text, flush=True))
        if config.json:
            write_json(config.json, result)
        return
    result = evaluate_checkpoint(config, show=print)
    for row in result["per_class"]:
        share = "no images" if row["top_1"] is None else f"{row['top_1']:.4f}"
        print(f"  {row['class_id']:>4}  {row['name']:<24} {row['count']:>6} images  top-1 {share}")
    print(describe(result))
    if config.json:
        write_json(config.json, result)


if __name__ == "__main__":
    command_line.run(main, EvalConfig)
