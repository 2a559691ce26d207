"""Classifies images with a checkpoint.

    python classify_images.py --checkpoint_path=runs/digits-resnet_v2_50 photo.jpg folder 'scans/*.png'
    find . -name '*.jpg' | python classify_images.py --checkpoint_path=runs/digits-resnet_v2_50 -

Network, preprocessing, image size and class names come from the model.json beside the checkpoint. `--help` lists all
flags.
"""

import sys

import command_line
from inference.classify import ClassifyConfig, classify


def main(config):
    """Classifies and prints; returns 1 when an image could not be read."""
    from inference.printing import PRINTERS

    def on_failure(name, reason):
        print(f"warning: {name}: {reason}", file=sys.stderr)

    with PRINTERS[config.format](sys.stdout) as printer:
        classified, failed = classify(config, printer.add, on_failure)
    if failed:
        print(f"error: {failed} of {classified + failed} images could not be read", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    command_line.run(main, ClassifyConfig)
