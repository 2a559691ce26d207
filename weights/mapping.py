"""Maps a format's tensors to our variables and back, and reports what does not fit."""

import numpy as np

from command_line import UserError
from weights.places import has_norm, list_places, quantities, structure_of, variable_name

_MOST = 6  # Names of each kind that a message lists.


def number_of_classes(library, structure, tensors, projections):
    """Number of classes of the tensors' last layer; None if they have no last layer."""
    for (place, quantity), name in library.names(structure, tensors, projections).items():
        if place.role == "logits" and quantity == "biases" and name in tensors:
            return len(tensors[name])
    return None


def to_ours(library, structure, tensors, projections, reverse_channels):
    """Finds a value for each of our variables.

    A convolution's bias before a norm, which ours do not have, is subtracted from the norm's moving mean.

    Args:
      library: A module of a format.
      structure: A places.Structure.
      tensors: A dict of the format's name -> array.
      projections: As in `places.list_places`.
      reverse_channels: Whether the first convolution expects BGR.

    Returns:
      A dict of our variable's name -> array.

    Raises:
      UserError: If tensors are missing or left over; the message lists them, and the network whose names they have.
    """
    names = library.names(structure, tensors, projections)
    missing, unexpected = compare_names(library, structure, tensors, projections)
    if missing or unexpected:
        raise UserError(_explain(library, structure, tensors, missing, unexpected))
    has_head = any(place.role == "logits" and names[place, quantity] in tensors for place, quantity in names)
    values = {}
    for place in list_places(structure, projections):
        if place.role == "logits" and not has_head:
            continue
        found = {
            quantity: library.to_ours(place, quantity, np.asarray(tensors[name], np.float32))
            for (where, quantity), name in names.items()
            if where == place and name in tensors
        }
        if place == (0, 0, "conv1") and reverse_channels:
            found["weights"] = found["weights"][:, :, ::-1]
        if has_norm(structure, place) and "biases" in found:
            found["moving_mean"] = found["moving_mean"] - found.pop("biases")
        for quantity in quantities(structure, place):
            # For a format without this bias it is zero.
            value = found[quantity] if quantity in found else np.zeros(found["weights"].shape[-1:], np.float32)
            values[variable_name(structure, place, quantity)] = np.ascontiguousarray(value)
    return values


def from_ours(library, structure, model, reverse_channels):
    """The tensors that make the library's network compute what ours does, with the library's epsilon in its norms.

    Our epsilon minus the library's is added to the moving variances. Biases that only the library has are zero.

    Args:
      library: A module of a format that has EPSILON and from_ours.
      structure: A places.Structure.
      model: A SlimModel.
      reverse_channels: Whether the library's first convolution expects BGR.

    Returns:
      A dict of the library's name -> float32 array.
    """
    values = {name: variable.numpy() for name, variable in model.variables_by_name.items()}
    projections = model.settings["projections"]
    scope = model.settings.get("scope")
    tensors = {}
    for (place, quantity), name in library.names(structure, {}, projections).items():
        if place.role == "logits" and not model.num_classes:
            continue
        if quantity in quantities(structure, place):
            value = values[variable_name(structure, place, quantity, scope)]
        else:  # A bias before a norm.
            value = np.zeros_like(values[variable_name(structure, place, "beta", scope)])
        if quantity == "moving_variance":
            # In float64: the difference of two epsilons would be lost in a variance's rounding.
            value = np.float32(np.float64(value) + model.settings["batch_norm_epsilon"] - library.EPSILON)
        if place == (0, 0, "conv1") and quantity == "weights" and reverse_channels:
            value = value[:, :, ::-1]
        tensors[name] = library.from_ours(place, quantity, value)
    return tensors


def compare_names(library, structure, tensors, projections):
    """Lists names that a network needs but the tensors lack, and names of tensors that it has no place for."""
    names = library.names(structure, tensors, projections)
    needed = {
        names[place, quantity]
        for place in list_places(structure, projections)
        for quantity in quantities(structure, place)
        if (place, quantity) in names
    }
    head = {name for (place, _), name in names.items() if place.role == "logits"}
    if not head & set(tensors):
        needed -= head  # Weights "without top".
    return sorted(needed - set(tensors)), sorted(set(tensors) - set(names.values()))


def look_alike(library, tensors):
    """The name of the network that the tensors' names fit; None if they fit none."""
    for model_name in library.MODEL_NAMES:
        structure = structure_of(model_name)
        projections = library.projections(structure)
        if not any(compare_names(library, structure, tensors, projections)):
            return model_name
    return None


def check_shapes(values, variables_by_name):
    """Raises a UserError that lists values whose shapes are not those of the network's variables."""
    wrong = [
        f"{name} {value.shape} instead of {tuple(variables_by_name[name].shape)}"
        for name, value in values.items()
        if value.shape != tuple(variables_by_name[name].shape)
    ]
    if wrong:
        raise UserError(
            f"{len(wrong)} tensors have another shape than the network's: {_few(wrong)}; no network here has these "
            "widths"
        )


def _explain(library, structure, tensors, missing, unexpected):
    alike = look_alike(library, tensors)
    advice = f"they are a {alike}'s: give --model_name={alike}" if alike else "no network of this format fits"
    return (
        f"the tensors do not fit {structure.model_name}: {len(missing)} missing{_listed(missing)}, "
        f"{len(unexpected)} unexpected{_listed(unexpected)}; {advice}"
    )


def _listed(names):
    return f" ({_few(names)})" if names else ""


def _few(names):
    return ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")
