"""Networks of PyTorch's libraries, with random weights: what our weights are compared with."""

from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is the optional [torch] extra")

MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _declare_operators():
    """Lets PyPI's torchvision be imported beside a PyTorch built for CPUs only.

    Its compiled part wants the build with CUDA and is left out then, whereupon its import fails over two operators of
    box detection that it describes; they need to be known by name only, and no ResNet calls them.
    """
    try:
        foreign = version("torch").endswith("+cpu") and not version("torchvision").endswith("+cpu")
    except PackageNotFoundError:
        return
    if foreign:
        from torch import library as operators

        for operator in ("torchvision::nms", "torchvision::qnms"):
            operators.define(operator, "(Tensor a, Tensor b, float c) -> Tensor")


_declare_operators()


def make(library, depth, classes):
    """The network of `depth` layers of torchvision, of timm, or the plain one that --verify runs.

    Its images are float32 [batch, 3, height, width], its logits [batch, classes]. Without the library a test is left
    out.
    """
    if library == "plain":
        return pytest.importorskip("weights.torch_resnet").ResNet(depth, classes)
    reason = f"{library} is among what `make torch` installs"
    if library == "timm":
        return pytest.importorskip("timm", reason=reason).create_model(f"resnet{depth}", num_classes=classes)
    models = pytest.importorskip("torchvision.models", reason=reason)
    return getattr(models, f"resnet{depth}")(num_classes=classes)


def randomize(model, seed):
    """Gives a network random weights and random statistics, and returns it for inference."""
    torch.manual_seed(seed)
    for name, value in model.state_dict().items():
        if name.endswith(("running_var", "weight")) and value.ndim == 1:
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(std=0.2)
        elif value.ndim > 1:
            # PyTorch's own start would leave little of the pictures in the logits.
            torch.nn.init.kaiming_normal_(value)
    return model.eval()


def logits_of(model, pixels):
    """PyTorch's logits for RGB pixels 0 to 255, [batch, height, width, 3].

    They are standardized as torchvision's weights want it.
    """
    inputs = (pixels / 255 - np.float32(MEANS)) / np.float32(DEVIATIONS)
    with torch.no_grad():
        return model(torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy())).numpy()
