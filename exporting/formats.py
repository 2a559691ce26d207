"""The table of formats.

A format is a module with

    PRECISIONS       the precisions it has
    SUFFIXES         the endings of its files, with the file to open first; () for a folder
    COMPUTE_DTYPES   precision -> dtype that the network is traced in, where that is not float32
    LIBRARIES        precision (or "any") -> {library it needs: extra that installs it}
    SIGNATURES       its signatures besides the one for image tensors
    NOTE             a line that says what input it takes
    write(network, path, calibration)
"""

import importlib

from command_line import UserError
from exporting import to_onnx, to_openvino, to_saved_model, to_tflite

FORMATS = {"saved_model": to_saved_model, "onnx": to_onnx, "openvino": to_openvino, "tflite": to_tflite}


def find_format(name, precision):
    """Returns the module of a format after checking that it has the precision and the libraries it needs.

    Raises:
      UserError: If the format has no such precision, or a library is missing; the message names the extra.
    """
    module = FORMATS[name]
    if precision not in module.PRECISIONS:
        raise UserError(
            f"--format={name} has no --precision={precision}; it has {', '.join(module.PRECISIONS)}"
            + "".join(f", and {key} has {precision}" for key, other in FORMATS.items() if precision in other.PRECISIONS)
        )
    for library, extra in module.LIBRARIES.get(precision, module.LIBRARIES["any"]).items():
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise UserError(
                f"--format={name} --precision={precision} needs {library}, which cannot be imported ({error}): "
                f"pip install -e '.[{extra}]'"
            ) from error
    return module
