"""Training that starts from a checkpoint's weights: what is restored, newly initialized and frozen.

Scopes are prefixes of variable names, separated by commas, as in Slim. A norm in a frozen scope keeps its statistics
and normalizes by them, since weights that were trained with them fit no others.
"""

import sys

from command_line import UserError
from nets import checkpoints
from whole_files import write_json

REPORT = "fine_tuning.json"
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def check(config):
    """Raises a UserError for flags that need --checkpoint_path, or that would undo it."""
    if config.checkpoint_path is not None and config.optimizer == "ftrl":
        raise UserError(
            "--optimizer=ftrl computes weights from sums that begin at 0, so that those of --checkpoint_path would be "
            "gone after one step; take another optimizer"
        )
    if config.checkpoint_path is None:
        for name in ("fine_tune", "checkpoint_exclude_scopes", "ignore_missing_vars"):
            if getattr(config, name):
                raise UserError(f"--{name} needs --checkpoint_path, the checkpoint to begin with")


def head_scope(model):
    """The scope of the layer that makes the logits."""
    return f"{model.settings.get('scope', model.name)}/logits"


def trained_scopes(config, model):
    """The scopes to train, as prefixes; None for all.

    Raises:
      UserError: If a scope matches no variable.
    """
    head = (head_scope(model),) if config.fine_tune else ()
    if config.trainable_scopes is None:
        return head or None
    return _scopes(config, "trainable_scopes", model) + head


def trainable_variables(config, model):
    """The variables to train, by name.

    Raises:
      UserError: If there are none.
    """
    scopes = trained_scopes(config, model)
    chosen = {
        name: variable
        for name, variable in model.variables_by_name.items()
        if variable.trainable and (scopes is None or name.startswith(scopes))
    }
    if not chosen:
        raise UserError(f"--trainable_scopes={config.trainable_scopes} holds no variable that can be trained")
    return chosen


def mode_of_norms(config, model):
    """What norms get as `training`: True, or a function from a norm's scope to whether it uses the batch."""
    scopes = trained_scopes(config, model)
    if scopes is None or config.update_frozen_batch_norm:
        return True
    return lambda scope: any(f"{scope}/{name}".startswith(scopes) for name in _NORM)


def trains_norms(config, model):
    """Whether any norm uses the batch, so that its statistics move."""
    mode, statistic = mode_of_norms(config, model), "/moving_mean"
    names = [name for name in model.variables_by_name if name.endswith(statistic)]
    return any(mode is True or mode(name.removesuffix(statistic)) for name in names)


def source_description(config):
    """What the source's model.json says about network and preprocessing; warns if this run has another preprocessing.

    Returns:
      A dict: "network", settings of `nets_factory.create_model`; "preprocessing", its name and numbers as
      `preprocessing.from_settings` takes them, if this run's has the same name and number of channels. {} without a
      model.json.

    Raises:
      UserError: If there is no checkpoint, or it is from another network.
    """
    if config.checkpoint_path is None:
        return {}
    prefix = checkpoints.find(config.checkpoint_path)
    if not checkpoints.has_description(prefix):
        return {}
    description = checkpoints.read_description(prefix)
    network, recorded = description["network"], description["preprocessing"]
    preprocessing = recorded["name"]
    if network["model_name"] != config.model_name:
        raise UserError(
            f"--model_name is {config.model_name}, but {prefix} is a {network['model_name']}; give the same name"
        )
    if preprocessing != config.preprocessing_name:
        print(
            f"warning: {prefix} was trained with preprocessing {preprocessing}, this run has "
            f"{config.preprocessing_name}; --preprocessing_name={preprocessing} would feed it as it was",
            file=sys.stderr,
        )
        return {"network": network}
    if config.use_grayscale != (recorded.get("channels", 3) == 1):
        return {"network": network}
    return {"network": network, "preprocessing": recorded}


def restore(config, model, class_names, folder):
    """Restores the weights and statistics that the flags ask for, and lists every variable in the run's folder.

    Args:
      config: A resolved TrainConfig with a checkpoint_path.
      model: A SlimModel.
      class_names: A name for each of its classes; others in the file than these are warned of if its head is restored.
      folder: The run's folder, which gets REPORT.

    Returns:
      A line of counts, with the scopes of what was not restored or is frozen.

    Raises:
      UserError: If the checkpoint lacks a variable or has it in another shape; the message names the flag that helps.
    """
    prefix = checkpoints.find(config.checkpoint_path)
    shapes = checkpoints.reader(prefix).get_variable_to_shape_map()
    variables = model.variables_by_name
    averages = checkpoints.names_with_averages(prefix, variables)
    # Restores what was evaluated there: averages, if it has any.
    names = averages or {name: name for name in variables}
    excluded = _excluded(config, model)
    wanted = [name for name in variables if not name.startswith(excluded)]
    missing = [name for name in wanted if names[name] not in shapes]
    if missing and (not config.ignore_missing_vars or len(missing) == len(wanted)):
        raise _missing_error(prefix, missing, wanted, shapes)
    found = [name for name in wanted if names[name] in shapes]
    for name in found:
        there, here = tuple(shapes[names[name]]), tuple(variables[name].shape)
        if there != here:
            raise _shape_error(prefix, name, there, here, head_scope(model), config.labels_offset)
    checkpoints.restore(prefix, {names[name]: variables[name] for name in found})
    if any(name.startswith(head_scope(model)) for name in found):
        _warn_of_other_classes(prefix, class_names, head_scope(model))
    scopes = trained_scopes(config, model)
    report = {
        "checkpoint": str(prefix),
        "restored": found,
        "new": [name for name in variables if name not in wanted],
        "missing": missing,
        "moving_averages": averages is not None,
        "skipped": sorted(set(shapes) - {names[name] for name in found}),
        "frozen": [name for name in variables if scopes is not None and not name.startswith(scopes)],
        "frozen_statistics_move": config.update_frozen_batch_norm,
    }
    write_json(folder / REPORT, report)
    if idle := sorted(set(report["new"] + missing) & set(report["frozen"])):
        print(
            f"warning: {len(idle)} variables begin anew and are frozen, {', '.join(idle[:2])} among them: they stay as "
            "they begin; add their scopes to --trainable_scopes",
            file=sys.stderr,
        )
    what = "moving averages of variables" if averages else "variables"
    return (
        f"from {prefix}: {len(found)} {what} restored, {_counted(report['new'] + missing)} begin anew, "
        f"{_counted(report['skipped'], variables)} of the file not used, {_counted(report['frozen'])} frozen; "
        f"{folder / REPORT} names each"
    )


def _warn_of_other_classes(prefix, class_names, head):
    """Warns of the first class whose name in the checkpoint's model.json, if it has one, is another in the data."""
    if not checkpoints.has_description(prefix):
        return
    theirs = checkpoints.read_description(prefix)["label_names"] or class_names
    for number, (there, here) in enumerate(zip(theirs, class_names, strict=False)):
        if there != here:
            print(
                f"warning: class {number} is {there!r} in {prefix}, but {here!r} in the data; "
                f"--checkpoint_exclude_scopes={head} or --fine_tune begins the logits anew",
                file=sys.stderr,
            )
            return


def _counted(names, variables=(), most=6):
    """How many, and in which scopes or, for slots of variables, of which kind: "3 (resnet_v1_50/logits, Momentum)"."""
    slots = {name: name.rpartition("/")[2] for name in names if name.rpartition("/")[0] in variables}
    scopes = list(dict.fromkeys(slots.get(name) or "/".join(name.split("/")[:2]) for name in names))
    listed = ", ".join(scopes[:most]) + (f" and {len(scopes) - most} more" if len(scopes) > most else "")
    return f"{len(names)} ({listed})" if names else "0"


def _excluded(config, model):
    """The prefixes of what is newly initialized, a tuple."""
    scopes = () if config.checkpoint_exclude_scopes is None else _scopes(config, "checkpoint_exclude_scopes", model)
    return scopes + ((head_scope(model),) if config.fine_tune else ())


def _scopes(config, flag, model):
    scopes = tuple(scope.strip() for scope in getattr(config, flag).split(",") if scope.strip())
    for scope in scopes or ("",):
        if not scope or not any(name.startswith(scope) for name in model.variables_by_name):
            known = sorted({"/".join(name.split("/")[:2]) for name in model.variables_by_name})
            raise UserError(f"--{flag}: no variable's name begins with {scope!r}; scopes: {', '.join(known)}")
    return scopes


def _missing_error(prefix, missing, wanted, shapes, most=4):
    listed = ", ".join(missing[:most]) + (", ..." if len(missing) > most else "")
    if len(missing) == len(wanted):
        held = ", ".join(sorted(shapes)[:most])
        return UserError(f"checkpoint {prefix} holds another network: it has none of {listed}, but {held}, ...")
    return UserError(
        f"checkpoint {prefix} lacks {len(missing)} of {len(wanted)} variables: {listed}; --ignore_missing_vars begins "
        "them anew, and so does --checkpoint_exclude_scopes for scopes that it names"
    )


def _shape_error(prefix, name, there, here, head, labels_offset):
    scope = head if name.startswith(head) else name.rpartition("/")[0]
    message = (
        f"checkpoint {prefix}: {name} has shape {there} there and {here} in this network; begin it anew with "
        f"--checkpoint_exclude_scopes={scope}"
    )
    if scope != head:
        return UserError(message)
    message += ", or train it alone with --fine_tune"
    offset = labels_offset + here[-1] - there[-1]
    if abs(offset - labels_offset) == 1 and offset >= 0:
        message += f"; if they differ by a background class, --labels_offset={offset} keeps it"
    return UserError(message)
