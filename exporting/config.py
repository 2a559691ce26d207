"""The flags of `export_model.py`."""

import dataclasses
import pathlib
from typing import Literal


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Exports a checkpoint's network for other programs, runs the export, and compares it with the checkpoint.

    Network, preprocessing, image size and labels come from the model.json beside the checkpoint.
    """

    checkpoint_path: pathlib.Path
    """Folder of a run (its newest checkpoint), or one checkpoint."""
    format: Literal["saved_model", "onnx", "openvino", "tflite"]
    """Export format."""
    output: pathlib.Path
    """Folder (saved_model) or file (.onnx, .xml, .tflite) to write."""
    precision: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    """Precision of weights and arithmetic, if the format has it; int8 is calibrated on records."""
    input_format: Literal["NHWC", "NCHW"] = "NHWC"
    """Layout of the input image tensors; end points stay [batch, height, width, channels]."""
    end_points: str = ""
    """Activations to output too, separated by commas: block4,global_pool."""
    eval_image_size: int | None = None
    """Height and width of the images fed to the network, in pixels; None for the checkpoint's own."""
    dataset_name: str | None = None
    """Data set to compare on; None for the one that the network was trained on."""
    dataset_dir: str | None = None
    """Folder with TFRecords and their dataset.json."""
    dataset_split_name: str | None = None
    """Split to compare on; None for the data set's own evaluation split."""
    num_images: int = 256
    """Records to compare on and to measure accuracy on; 0 compares on generated pictures only."""
    num_calibration_images: int = 128
    """Records of the training split to calibrate int8 ranges on."""
    batch_size: int = 32
    """Images per step of the comparison."""
    tolerance: float | None = None
    """Largest difference, relative to an output's largest value; None for the precision's own (float32: 0.0001)."""
    overwrite: bool = False
    """Replace an earlier export at --output."""
    json: pathlib.Path | None = None
    """JSON file to write the measured figures to."""
