"""Recipes: files of flags, with records of their results.

A recipe is a TOML file in `recipes/`:

    description = "ResNet-20 on CIFAR-10 in 48 epochs"
    paper = {top_1 = 0.9125, source = "arXiv:1512.03385, table 6"}     # optional

    [flags]                      # of train_image_classifier.py, by name
    model_name = "resnet_cifar_v1_20"

    [[records]]                  # one for each finished run; none if it was never run here
    date = 2026-11-24
    seed = 0
    top_1 = 0.9
    ...
"""

import contextlib
import dataclasses
import pathlib
import tomllib
import types
import typing

from command_line import UserError
from training import checks
from training.config import TrainConfig

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "recipes"


def config_of_recipe(config):
    """The config that a recipe asks for, as the defaults of the command line.

    Args:
      config: The TrainConfig of the command line.

    Returns:
      A TrainConfig with the flags of `config.recipe`; None if it names none.

    Raises:
      UserError: If there is no such recipe, or it holds something other than flags.
    """
    if config.recipe is None:
        return None
    flags = read_recipe(config.recipe)["flags"]
    for names in (*checks.LENGTHS, checks.RUN_LENGTHS):
        # A length on the command line replaces the recipe's, whatever its unit.
        if any(getattr(config, name) is not None for name in names):
            flags = {name: value for name, value in flags.items() if name not in names}
    for chooser, heeded_by in checks.HEEDED_BY.items():
        # Flags that another schedule or optimizer would not use are left out.
        if (choice := getattr(config, chooser)) != getattr(TrainConfig(), chooser):
            flags = {name: value for name, value in flags.items() if choice in heeded_by.get(name, (choice,))}
    return TrainConfig(**flags, recipe=config.recipe)


def list_recipes():
    """The names of the recipes in `recipes/`, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_recipe(name):
    """Reads a recipe.

    Args:
      name: The name of a file in `recipes/` without its extension, or a path that ends in .toml.

    Returns:
      The recipe's dict; its flags are those of TrainConfig.

    Raises:
      UserError: If there is no such file, it is not TOML, or a flag is unknown or of the wrong type.
    """
    path = pathlib.Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"--recipe={name}: no file {path}; expected a path that ends in .toml, or one of: "
            f"{', '.join(list_recipes())}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"--recipe={name}: {path} is not TOML ({error}); see training/recipes.py for the form"
        ) from error
    known = {field.name for field in dataclasses.fields(TrainConfig)} - {"recipe"}
    if not isinstance(recipe.get("flags"), dict):
        raise UserError(f"--recipe={name}: {path} has no table [flags]; docs/recipes.md has the form")
    if unknown := sorted(set(recipe["flags"]) - known):
        raise UserError(f"--recipe={name}: {path} has unknown flags {', '.join(unknown)}; --help lists the known ones")
    recipe["flags"] = {
        flag: _as_flag(flag, value, f"--recipe={name}: {path}") for flag, value in recipe["flags"].items()
    }
    return recipe


def _as_flag(name, value, where):
    """Converts a value from TOML to the type of the flag's field.

    Raises:
      UserError: If it is of the wrong type.
    """
    import typeguard  # Here, so that where it is missing `command_line.run` says so.

    hint = typing.get_type_hints(TrainConfig)[name]
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)] if is_union else [hint]
    if isinstance(value, list):
        value = tuple(value)
    elif isinstance(value, str) and pathlib.Path in kinds:
        value = pathlib.Path(value)
    # In Python, True is also a number.
    has_bool = any(isinstance(one, bool) for one in (value if isinstance(value, tuple) else (value,)))
    if not has_bool or bool in kinds:
        with contextlib.suppress(typeguard.TypeCheckError):
            every = typeguard.CollectionCheckStrategy.ALL_ITEMS
            return _with_floats(typeguard.check_type(value, hint, collection_check_strategy=every), kinds)
    raise UserError(f"{where}: {name} is {value!r}, expected {' or '.join(map(_in_words, kinds))}")


def _with_floats(value, kinds):
    """Whole numbers as floats where the flag takes floats: TensorFlow would make whole numbers of 0 and 1."""
    if isinstance(value, tuple):
        return tuple(map(float, value)) if any(float in typing.get_args(kind) for kind in kinds) else value
    return float(value) if isinstance(value, int) and float in kinds else value


def _in_words(kind):
    if typing.get_origin(kind) is typing.Literal:
        return f"one of {', '.join(typing.get_args(kind))}"
    if typing.get_origin(kind) is tuple:
        first, *others = typing.get_args(kind)
        return f"a list of {'any number of' if Ellipsis in others else 1 + len(others)} {first.__name__}"
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "a text")
