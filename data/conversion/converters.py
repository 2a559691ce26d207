"""The table of converters, from --dataset_name to the function that plans the conversion."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from data.conversion.cifar import CIFAR10, CIFAR100
from data.conversion.flowers import plan_flowers
from data.conversion.idx import FASHION_MNIST, MNIST
from data.conversion.image_folder import plan_image_folder
from data.conversion.imagenet import plan_imagenet
from data.conversion.plan import Plan


@dataclasses.dataclass(frozen=True)
class Request:
    """What a converter is asked to do; the fields are the flags of the same names.

    Attributes:
      source: Path or URL; None for the publisher's.
      scratch_dir: Folder for downloads and unpacked archives, removed at the end of the conversion.
    """

    dataset_dir: Path
    scratch_dir: Path
    source: str | None = None
    validation_fraction: float | None = None
    seed: int = 0
    num_shards: int | None = None


@dataclasses.dataclass(frozen=True)
class Converter:
    """`plan` turns a Request into a Plan; `splits_by_flags` says whether it uses validation_fraction and seed."""

    plan: Callable[[Request], Plan]
    splits_by_flags: bool = False


CONVERTERS = {
    "image_folder": Converter(plan_image_folder, splits_by_flags=True),
    "cifar10": Converter(CIFAR10.plan),
    "cifar100": Converter(CIFAR100.plan),
    "mnist": Converter(MNIST.plan),
    "fashion_mnist": Converter(FASHION_MNIST.plan),
    "flowers": Converter(plan_flowers),
    "imagenet": Converter(plan_imagenet),
}
