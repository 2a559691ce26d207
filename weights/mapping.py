"""From a format's tensors to our variables, with an account of what did not fit."""

import numpy as np

from command_line import UserError
from weights.places import has_norm, list_places, quantities, structure_of, variable_name

_MOST = 6  # Names that a message lists of each kind.


def number_of_classes(library, structure, tensors, projections):
    """Classes that the tensors' last layer tells apart; None where they have no last layer."""
    for (place, quantity), name in library.names(structure, tensors, projections).items():
        if place.role == "logits" and quantity == "biases" and name in tensors:
            return len(tensors[name])
    return None


def to_ours(library, structure, tensors, projections, reverse_channels):
    """Finds a value for each of our variables.

    A convolution's bias in front of a norm is taken off the norm's moving mean, where ours have none.

    Args:
      library: A module of a format.
      structure: A places.Structure.
      tensors: A dict of the format's name -> array.
      projections: As in `places.list_places`.
      reverse_channels: Whether the first convolution expects BGR.

    Returns:
      A dict of our variable's name -> array.

    Raises:
      UserError: If tensors are missing or left over; the message lists them, and the network that they look like.
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
            # A format without this bias has none to add.
            value = found[quantity] if quantity in found else np.zeros(found["weights"].shape[-1:], np.float32)
            values[variable_name(structure, place, quantity)] = np.ascontiguousarray(value)
    return values


def compare_names(library, structure, tensors, projections):
    """Lists names that a network needs and the tensors lack, and names of tensors that it has no place for."""
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
    """The name of the network whose names the tensors have, None where none has."""
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
            f"{len(wrong)} tensors have another shape than the network's: {_few(wrong)}; no network here has these widths"
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
