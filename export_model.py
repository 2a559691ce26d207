"""Writes a checkpoint for other programs, as a SavedModel, ONNX, OpenVINO or TensorFlow Lite file, and checks it.

    python export_model.py --checkpoint_path=runs/digits-resnet_v2_50 --format=onnx --output=digits.onnx

The export is run in its own runtime and compared with the checkpoint's network, on real records if a data set is known,
before it appears under its name. `--help` lists all flags; docs/export.md says what each format can do.
"""

import command_line
from exporting.config import ExportConfig
from whole_files import write_json


def main(config):
    """Exports, prints, and writes the figures if asked for."""
    from exporting.export import describe, export

    result = export(config, show=print)
    print(describe(result))
    if config.json:
        write_json(config.json, result)


if __name__ == "__main__":
    command_line.run(main, ExportConfig)
