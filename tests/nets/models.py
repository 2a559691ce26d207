"""Models small enough to make in each test: networks of 8 layers, and thin ones of 18."""

from nets_testing import noise

from nets import nets_factory

# 18 layers, 4 to 32 channels wide behind the root.
THIN = {"depth_multiplier": 1 / 16, "min_base_depth": 2}
CLASSES = 10
IMAGES = noise(3, 40, 33, 3)


def thin_model(name, num_classes=CLASSES, **kwargs):
    return nets_factory.create_model(name, num_classes, **THIN, **kwargs)


def tiny_model(name="resnet_cifar_v1_8", num_classes=CLASSES, **kwargs):
    """A model of one of the networks that the fixture `tiny_networks` puts into the table."""
    return nets_factory.create_model(name, num_classes, **kwargs)


def values_of(model):
    return {name: variable.numpy() for name, variable in model.variables_by_name.items()}
