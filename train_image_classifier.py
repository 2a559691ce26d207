"""Trains a residual network on TFRecords.

    python train_image_classifier.py --model_name=resnet_v2_50

trains on the embedded digits, evaluates on their test split, and leaves checkpoints, model.json and TensorBoard curves
in runs/digits-resnet_v2_50. Ctrl-C saves a checkpoint; the same command resumes. `--help` lists all flags.
"""

import command_line
from training.config import TrainConfig
from training.recipes import config_of_recipe
from whole_files import write_json


def main(config):
    """Trains; returns 130 when interrupted, and LOST when another worker was interrupted."""
    if config.max_restarts:
        from training.restarts import run_again_and_again

        return run_again_and_again(config.max_restarts)
    from training import clusters

    cluster = clusters.find_cluster(config)
    if cluster.servers and not cluster.is_chief:
        from training import parameter_servers

        return parameter_servers.serve(cluster, config.num_gpus)
    from training.evaluation import describe
    from training.loop import train
    from training.workers import LOST

    result = train(config)
    if not result.finished:
        saved = f"saved {result.checkpoint}" if result.checkpoint else "nothing to save yet"
        who = "interrupted" if result.asked else "another worker was interrupted"
        print(f"{who} at step {result.step} of {result.total_steps}; {saved}")
        print("the same command goes on from there")
        return 130 if result.asked else LOST
    pace = f", {result.images_per_second:.0f} images/s in training" if result.images_per_second else ""
    print(f"checkpoint {result.checkpoint}{pace}")
    print(describe(result.evaluation))
    if config.json:
        write_json(config.json, result._asdict())
    return 0


if __name__ == "__main__":
    command_line.run(main, TrainConfig, preset=config_of_recipe)
