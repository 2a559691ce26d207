"""Recipes: each file holds what it says, and flags beside a recipe come first."""

import dataclasses
import re
import shlex

import pytest

import command_line
from command_line import UserError
from data import catalog
from nets import nets_factory
from training import checks, recipes
from training.config import TrainConfig

WRITTEN = """
description = "a try"

[flags]
model_name = "resnet_cifar_v1_20"
batch_size = 7
learning_rate_decay_steps = [3, 5]
"""
RECORD = {"command", "date", "machine", "versions", "seed", "minutes", "top_1", "count", "log"}


def parse(*arguments):
    """The config that the trainer's command line gives."""
    found = []
    with pytest.raises(SystemExit) as ending:
        command_line.run(found.append, TrainConfig, arguments, preset=recipes.config_of_recipe)
    return found[0] if found else ending.value.code


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(WRITTEN)
    return str(path)


def test_a_recipe_gives_the_defaults(written):
    expected = dataclasses.replace(
        TrainConfig(),
        recipe=written,
        model_name="resnet_cifar_v1_20",
        batch_size=7,
        learning_rate_decay_steps=(3, 5),
    )
    assert parse(f"--recipe={written}") == expected
    assert parse() == TrainConfig()


def test_whole_numbers_are_floats_where_the_flag_is(tmp_path):
    """TensorFlow makes an integer of 0, which no regularizer, slot or rate can be."""
    (tmp_path / "own.toml").write_text(
        "[flags]\nweight_decay = 0\nwarmup_epochs = 2\nlearning_rate_decay_epochs = [3, 4.5]\nbatch_size = 8\n"
    )
    config = parse(f"--recipe={tmp_path / 'own.toml'}")
    values = config.weight_decay, config.warmup_epochs, *config.learning_rate_decay_epochs
    assert [(type(value), value) for value in values] == [(float, 0.0), (float, 2.0), (float, 3.0), (float, 4.5)]
    assert type(config.batch_size) is int


def test_flags_come_before_the_recipe(written):
    config = parse("--batch_size=9", f"--recipe={written}", "--seed=3")
    assert (config.batch_size, config.seed, config.model_name) == (9, 3, "resnet_cifar_v1_20")


@pytest.mark.parametrize(
    ("recipe", "flag", "left"),
    [
        ("max_number_of_steps = 300", "--num_epochs=5", {"num_epochs": 5.0, "max_number_of_steps": None}),
        ("eval_every_epochs = 8", "--eval_every_steps=100", {"eval_every_steps": 100, "eval_every_epochs": None}),
        ("warmup_epochs = 5", "--warmup_images=1000", {"warmup_images": 1000, "warmup_epochs": None}),
        ("num_epochs = 90", "--num_epochs=5", {"num_epochs": 5.0}),
    ],
)
def test_a_length_beside_a_recipe_takes_the_place_of_its_own(tmp_path, recipe, flag, left):
    path = tmp_path / "own.toml"
    path.write_text(f"[flags]\n{recipe}\n")
    config = parse(f"--recipe={path}", flag)
    assert {name: getattr(config, name) for name in left} == left
    checks.check_given(config)


def test_what_another_rule_beside_a_recipe_would_not_heed_is_left_out(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        "[flags]\nnesterov = true\nmomentum = 0.8\n"
        'learning_rate_decay_type = "step"\nlearning_rate_decay_epochs = [3]\n'
    )
    kept = parse(f"--recipe={path}", "--optimizer=lars")
    assert (kept.nesterov, kept.momentum, kept.learning_rate_decay_epochs) == (True, 0.8, (3.0,))
    dropped = parse(f"--recipe={path}", "--optimizer=sgd", "--learning_rate_decay_type=cosine")
    assert (dropped.nesterov, dropped.momentum, dropped.learning_rate_decay_epochs) == (False, 0.9, None)


@pytest.mark.parametrize(
    "content, message",
    [
        ("[flags]\nbatch_sise = 3\n", "unknown flags batch_sise"),
        ("description = 'nothing'\n", r"no table \[flags\]"),
        ("[flags\n", "is not TOML"),
        ("[flags]\nbatch_size = '64'\n", "bad.toml: batch_size is '64', expected a whole number$"),
        ("[flags]\nbatch_size = 64.5\n", "batch_size is 64.5, expected a whole number$"),
        ("[flags]\nbatch_size = true\n", "batch_size is True, expected a whole number$"),
        ("[flags]\nnesterov = 'yes'\n", "nesterov is 'yes', expected true or false$"),
        ("[flags]\noptimizer = 'sdg'\n", "optimizer is 'sdg', expected one of sgd, momentum, .*lars$"),
        ("[flags]\nlearning_rate_decay_epochs = 30\n", "decay_epochs is 30, expected a list of any number of float$"),
        ("[flags]\nlearning_rate_decay_epochs = [30, '60']\n", "expected a list of any number of float$"),
        ("[flags]\nlearning_rate_decay_steps = [1, true]\n", "expected a list of any number of int$"),
        ("[flags]\nprofile_steps = [1, 2, 3]\n", r"profile_steps is \(1, 2, 3\), expected a list of 2 int$"),
        (None, "no file .* one of: .*cifar10_resnet_cifar_v1_20"),
    ],
    ids=[
        "unknown flag",
        "no flags",
        "not TOML",
        "text for a number",
        "part of a whole",
        "truth for a number",
        "text for truth",
        "unknown choice",
        "number for a list",
        "text in a list",
        "truth in a list",
        "list too long",
        "no file",
    ],
)
def test_a_bad_recipe_is_one_line(tmp_path, content, message):
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        recipes.read_recipe(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_every_recipe_can_be_followed(name):
    """Its network, data set and numbers are ones that the trainer takes, and its records are whole."""
    recipe = recipes.read_recipe(name)
    config = recipes.config_of_recipe(TrainConfig(recipe=name))
    nets_factory.find_network(config.model_name)
    assert config.dataset_name in catalog.DATASETS
    checks.check_given(config)
    checks.check_resolved(config)
    assert recipe["description"]
    # The commands that its remarks give.
    text = (recipes.FOLDER / f"{name}.toml").read_text()
    for command in re.findall(r"^#\s+(python train_image_classifier\.py .*)$", text, re.M):
        followed = parse(*shlex.split(command)[2:])
        assert followed.recipe == name and not (followed.zero_gamma and "_v2_" in followed.model_name)
    if "paper" in recipe:
        assert recipe["paper"]["source"] and 0 < recipe["paper"]["top_1"] < 1
    for record in recipe.get("records", []):
        assert set(record) >= RECORD
        assert record["count"] == {"cifar10": 10_000, "fashion_mnist": 10_000}[config.dataset_name]
        assert (recipes.FOLDER / record["log"]).is_file()
