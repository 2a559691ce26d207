"""The flags of `export_model.py`."""

import dataclasses
import pathlib
from typing import Literal


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Writes a checkpoint's network for other programs, runs what was written, and compares it with the checkpoint.

    Network, preprocessing, image size and labels come from the model.json beside the checkpoint.
    """

    checkpoint_path: pathlib.Path
    """Folder of a run (its newest checkpoint), or one checkpoint."""
    format: Literal["saved_model", "onnx", "openvino", "tflite"]
    """What is written."""
    output: pathlib.Path
    """Folder (saved_model) or file (.onnx, .xml, .tflite) that is written."""
    precision: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    """Of weights and arithmetic, where the format has it; int8 is calibrated on records."""
    input_format: Literal["NHWC", "NCHW"] = "NHWC"
    """Layout of the image tensors that go in; end points stay [batch, height, width, channels]."""
    end_points: str = ""
    """Activations that come out too, apart by commas: block4,global_pool."""
    eval_image_size: int | None = None
    """Height and width of the images fed to the network, in pixels; None for the checkpoint's own."""
    dataset_name: str | None = None
    """Data set to compare on; None for the one that the network was trained on."""
    dataset_dir: str | None = None
    """Folder with TFRecords and their dataset.json."""
    dataset_split_name: str | None = None
    """Split to compare on; None for the data set's own evaluation split."""
    num_images: int = 256
    """Records to compare on and to measure the accuracy on; 0 compares on generated pictures alone."""
    num_calibration_images: int = 128
    """Records of the training split that int8 takes its ranges from."""
    batch_size: int = 32
    """Images of a step of the comparison."""
    tolerance: float | None = None
    """Largest difference, as a part of an output's largest value; None for the precision's own (float32: 0.0001)."""
    overwrite: bool = False
    """Whether an earlier export at `output` is replaced."""
    json: pathlib.Path | None = None
    """File that gets the measured figures as JSON."""
