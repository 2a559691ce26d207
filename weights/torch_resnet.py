"""A plain PyTorch ResNet under torchvision's names, for checking what was read or written.

It shares nothing with `nets` or with the lists of `places`. PyTorch is an optional extra: import this module lazily.
"""

import numpy as np
import torch
from torch import nn

_UNITS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


class Unit(nn.Module):
    """A basic or a bottleneck unit; the first 3x3 carries the stride."""

    def __init__(self, inputs, width, stride, kernel_sizes, expansion):
        super().__init__()
        outputs = width * expansion
        widths = [inputs] + [width] * (len(kernel_sizes) - 1) + [outputs]
        self.count = len(kernel_sizes)
        strided = kernel_sizes.index(3)
        for index, size in enumerate(kernel_sizes):
            convolution = nn.Conv2d(
                widths[index],
                widths[index + 1],
                size,
                stride=stride if index == strided else 1,
                padding=size // 2,
                bias=False,
            )
            self.add_module(f"conv{index + 1}", convolution)
            self.add_module(f"bn{index + 1}", nn.BatchNorm2d(widths[index + 1]))
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        else:
            self.downsample = nn.Identity()

    def forward(self, images):
        net = images
        for index in range(1, self.count + 1):
            net = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(net))
            if index < self.count:
                net = torch.relu(net)
        return torch.relu(net + self.downsample(images))


class ResNet(nn.Module):
    """A network of 18, 34, 50, 101, 152 or 200 layers; logits, or features with num_classes None."""

    def __init__(self, depth, num_classes):
        super().__init__()
        kernel_sizes, expansion = ((3, 3), 1) if depth < 50 else ((1, 3, 1), 4)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = 64
        for block, count in enumerate(_UNITS[depth]):
            units = []
            for unit in range(count):
                stride = 2 if block and not unit else 1
                units.append(Unit(inputs, 64 * 2**block, stride, kernel_sizes, expansion))
                inputs = 64 * 2**block * expansion
            self.add_module(f"layer{block + 1}", nn.Sequential(*units))
        self.fc = nn.Linear(inputs, num_classes) if num_classes else nn.Identity()

    def forward(self, images):
        net = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
        for block in (self.layer1, self.layer2, self.layer3, self.layer4):
            net = block(net)
        return self.fc(net.mean(dim=(2, 3)))


def run(structure, state, images):
    """Logits of the network that a state dict holds.

    Args:
      structure: A places.Structure; only its depth is read.
      state: A dict of name -> float32 tensor; names and shapes must match the network's exactly.
      images: float32 array [batch, height, width, 3].

    Returns:
      A float32 array, [batch, num_classes].
    """
    model = ResNet(structure.depth, len(state["fc.bias"]) if "fc.bias" in state else None)
    counters = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict(counters | state, strict=True)
    with torch.no_grad():
        return model.eval()(torch.from_numpy(np.array(images).transpose(0, 3, 1, 2))).numpy()
