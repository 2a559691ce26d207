"""Writes chosen activations of a network for every image to a file.

    python extract_features.py --checkpoint_path=runs/digits-resnet_v2_50 --images=data/digits \
        --end_points=block2,global_pool --output=features.npz
    python extract_features.py --model_name=resnet_v2_50 --list_end_points

The same command again resumes an interrupted run. `--help` lists all flags.
"""

import sys

import command_line
from inference.extract import ExtractConfig, extract, list_end_points


def main(config):
    """Extracts, or lists the end points; returns 1 when an image could not be read, 130 when interrupted."""
    if config.list_end_points:
        _print_rows(list_end_points(config))
        return 0

    def on_failure(name, reason):
        print(f"warning: {name}: {reason}", file=sys.stderr)

    try:
        count, failed = extract(config, print, on_failure)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from there", file=sys.stderr)
        return 130
    print(f"{config.output}: features of {count} images")
    if failed:
        print(f"error: {failed} of {count + failed} images could not be read and are not in it", file=sys.stderr)
    return 1 if failed else 0


def _print_rows(rows):
    texts = [("end point", "shape", "channels", "stride")]
    for name, shape, channels, stride in rows:
        texts.append((name, "x".join(map(str, shape)), str(channels), str(stride or "-")))
    widths = [max(len(text[column]) for text in texts) for column in range(4)]
    for name, *numbers in texts:
        print(name.ljust(widths[0]), *(text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)))


if __name__ == "__main__":
    command_line.run(main, ExtractConfig)
