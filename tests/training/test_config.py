"""What becomes of flags that were not given, and which flags a run may change when it is taken up again."""

import dataclasses
import json
import math
import pathlib
import re

import pytest

from command_line import UserError
from data import catalog
from nets import nets_factory
from training import checks, same_run
from training import config as configs
from training.config import TrainConfig

NETWORK = nets_factory.NETWORKS["resnet_v2_50"]


def dataset(row):
    return catalog.Dataset("toy", pathlib.Path("toy"), {"train": 10, "test": 5}, ("a", "b"), "{split}", row=row)


def resolve(config, row=None):
    return configs.resolve(config, dataset(row or catalog.DatasetRow()), NETWORK)


def test_without_flags_and_recipe_the_general_defaults_hold():
    resolved = resolve(TrainConfig())
    assert {name: getattr(resolved, name) for name in configs.GENERAL} == configs.GENERAL
    assert (resolved.preprocessing_name, resolved.train_image_size) == ("inception", 224)
    assert (resolved.dataset_name, resolved.dataset_split_name, resolved.eval_split_name) == ("toy", "train", "test")
    assert resolved.train_dir == pathlib.Path("runs/toy-resnet_v2_50")


def test_a_data_sets_defaults_come_before_the_general_ones_and_a_flag_before_both():
    defaults = catalog.TrainingDefaults(batch_size=8, num_epochs=3.0, learning_rate=0.5, warmup_epochs=1.0)
    row = catalog.DatasetRow(preprocessing_name="digits", image_size=32, train_split="all", defaults=defaults)
    resolved = resolve(TrainConfig(num_epochs=7.0, warmup_epochs=0.0), row)
    assert (resolved.batch_size, resolved.num_epochs, resolved.learning_rate) == (8, 7.0, 0.5)
    assert resolved.warmup_epochs == 0.0  # A zero was given: it is no gap to fill.
    assert resolved.momentum == 0.9
    assert (resolved.preprocessing_name, resolved.train_image_size, resolved.dataset_split_name) == (
        "digits",
        32,
        "all",
    )


def test_what_resolving_leaves_open():
    open_fields = {
        field.name for field in dataclasses.fields(TrainConfig) if getattr(resolve(TrainConfig()), field.name) is None
    }
    assert open_fields == {
        *("dataset_dir", "max_number_of_steps", "json", "dataset_num_private_threads", "data_service_address"),
        *("learning_rate_decay_epochs", "learning_rate_decay_steps", "learning_rate_decay_images"),
        *("warmup_steps", "warmup_images", "num_steps_per_decay", "num_images_per_decay", "base_batch_size"),
        *(
            "eval_every_steps",
            "save_every_epochs",
            "save_every_steps",
            "stop_at_top_1",
            "profile_steps",
            "recipe",
            "network_arguments",
        ),
        *("num_gpus", "worker_hosts", "ps_hosts", "task_index"),
        *("clip_gradient_norm", "moving_average_decay"),
        *("checkpoint_path", "checkpoint_exclude_scopes", "trainable_scopes"),
    }


@pytest.mark.parametrize(
    ("optimizer", "epsilon", "kind"),
    [("momentum", 1e-8, "l2"), ("adam", 1e-8, "l2"), ("rmsprop", 1.0, "l2"), ("adamw", 1e-8, "decoupled")],
)
def test_an_optimizer_brings_its_epsilon_and_its_decay(optimizer, epsilon, kind):
    resolved = resolve(TrainConfig(optimizer=optimizer))
    assert (resolved.opt_epsilon, resolved.weight_decay_kind) == (epsilon, kind)
    assert resolve(TrainConfig(optimizer=optimizer, opt_epsilon=0.5)).opt_epsilon == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_epochs": 1.0, "warmup_steps": 3}, "--warmup_epochs and --warmup_steps say the same thing"),
        ({"num_steps_per_decay": 1, "num_images_per_decay": 3}, "--num_steps_per_decay and --num_images_per_decay"),
        ({"eval_every_epochs": 1.0, "eval_every_steps": 3}, "--eval_every_epochs and --eval_every_steps say"),
        ({"optimizer": "adamw", "weight_decay_kind": "l2"}, "--optimizer=adamw has .*, or take --optimizer=adam$"),
        (
            {"optimizer": "ftrl", "weight_decay_kind": "decoupled"},
            "--optimizer=ftrl, .*--weight_decay_kind=l2 or --ftrl_l2",
        ),
        (
            {"sync_batch_norm": True, "recalibrate_batch_norm": 8},
            "--sync_batch_norm and --recalibrate_batch_norm do not",
        ),
        ({"optimizer": "lars", "weight_decay_kind": "l2"}, "--optimizer=lars has .*--weight_decay_kind out$"),
    ],
)
def test_flags_that_contradict_each_other_are_both_named(changes, message):
    with pytest.raises(UserError, match=message):
        resolve(TrainConfig(**changes))


def test_a_relative_data_folder_is_recorded_so_that_it_means_the_same_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve(TrainConfig(dataset_dir="records")).dataset_dir == str(tmp_path / "records")


@pytest.mark.parametrize(("kind", "factor"), [("step", 0.1), ("exponential", 0.94), ("cosine", 0.94)])
def test_a_drop_is_as_large_as_its_schedule_has_it(kind, factor):
    assert resolve(TrainConfig(learning_rate_decay_type=kind)).learning_rate_decay_factor == factor
    assert (
        resolve(TrainConfig(learning_rate_decay_type=kind, learning_rate_decay_factor=0.5)).learning_rate_decay_factor
        == 0.5
    )


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("batch_size", 0, 1),
        ("train_image_size", 0, 1),
        ("log_every_n_steps", 0, 1),
        ("keep_checkpoints", 0, 1),
        ("max_number_of_steps", 0, 1),
        ("num_epochs", 0.0, 0.01),
        ("num_epochs", math.inf, 1e6),
        ("num_epochs", math.nan, 1.0),
        ("adagrad_initial_accumulator_value", 0.0, 0.1),
        ("learning_rate", 0.0, 1e-9),
        ("learning_rate", -0.1, 0.1),
        ("num_epochs_per_decay", 0.0, 0.5),
        ("learning_rate_decay_factor", 0.0, 0.5),
        ("end_learning_rate", -1.0, 0.0),
        ("warmup_epochs", -1.0, 0.0),
        ("weight_decay", -1.0, 0.0),
        ("eval_every_epochs", -1.0, 0.0),
        ("eval_every_epochs", math.inf, 1e6),
        ("save_interval_secs", -1.0, 0.0),
        ("momentum", 1.0, 0.0),
        ("momentum", -0.1, 0.99),
        ("label_smoothing", 1.0, 0.0),
        ("batch_norm_decay", 1.1, 1.0),
        ("batch_norm_decay", math.nan, 0.0),
        ("opt_epsilon", 0.0, 1e-7),
        ("adam_beta1", 1.0, 0.0),
        ("adam_beta2", -0.1, 0.99),
        ("clip_gradient_norm", 0.0, 1.0),
        ("gradient_accumulation_steps", 0, 2),
        ("moving_average_decay", 1.0, 0.5),
        ("base_batch_size", 0, 256),
        ("ftrl_learning_rate_power", 0.1, 0.0),
        ("warmup_steps", -1, 0),
        ("warmup_epochs", math.inf, 0.5),
        ("learning_rate_decay_epochs", (math.inf,), (1.5,)),
        ("eval_every_steps", -1, 0),
        ("stop_at_top_1", 0.0, 1.0),
        ("recalibrate_batch_norm", -1, 0),
        ("seed", -1, 0),
        ("seed", 2**63, 2**63 - 1),
    ],
)
def test_a_number_out_of_its_range_names_its_flag(name, bad, good):
    with pytest.raises(UserError, match=re.escape(f"--{name} is {bad}, expected ")):
        resolve(TrainConfig(**{name: bad}))
    assert getattr(resolve(TrainConfig(**{name: good})), name) == good


@pytest.mark.parametrize(
    ("flags", "texts"),
    [
        # A user of Slim's, whose schedule is exponential by default.
        (
            {"learning_rate_decay_factor": 0.5, "num_epochs_per_decay": 10.0},
            [
                "--learning_rate_decay_factor has no effect with --learning_rate_decay_type=cosine (it is of step, "
                "exponential)",
                "--num_epochs_per_decay has no effect with --learning_rate_decay_type=cosine (it is of exponential)",
            ],
        ),
        # And one of PyTorch's.
        (
            {"optimizer": "sgd", "nesterov": True},
            ["--nesterov has no effect with --optimizer=sgd (it is of momentum, lars)"],
        ),
        (
            {"update_frozen_batch_norm": True},
            ["--update_frozen_batch_norm has no effect where --fine_tune and --trainable_scopes freeze nothing"],
        ),
        ({"learning_rate_decay_type": "exponential", "num_epochs_per_decay": 10.0}, []),
        ({"optimizer": "lars", "nesterov": True, "update_frozen_batch_norm": True, "fine_tune": True}, []),
    ],
)
def test_what_was_given_and_does_nothing_is_told(flags, texts):
    given = TrainConfig(**flags)
    assert checks.warnings(given, resolve(given)) == texts


def test_every_flag_of_one_rule_or_schedule_is_known_as_such():
    """A flag that is named after a rule or a schedule is in the table of those that only some heed."""
    flags = {name for of_choices in checks.HEEDED_BY.values() for name in of_choices}
    assert flags <= {field.name for field in dataclasses.fields(TrainConfig)}
    named = ("rmsprop_", "adam_", "adadelta_", "adagrad_", "ftrl_", "lars_", "learning_rate_decay_", "num_")
    choosers = {"learning_rate_decay_type", "num_epochs", "num_gpus"}
    assert {field.name for field in dataclasses.fields(TrainConfig) if field.name.startswith(named)} - flags == choosers


def test_a_recorded_run_equals_itself():
    config = resolve(TrainConfig(learning_rate_decay_epochs=(1.0, 2.5), max_number_of_steps=3))
    recorded = json.loads(json.dumps(configs.to_json(config)))
    assert same_run.differences(recorded, config) == []


def test_a_flag_that_is_newer_than_a_run_had_its_default_there():
    config = resolve(TrainConfig(mixup_alpha=0.2))
    recorded = configs.to_json(config)
    del recorded["use_grayscale"], recorded["mixup_alpha"]
    assert same_run.differences(recorded, config) == ["--mixup_alpha was 0.0, is 0.2"]
    # What a default of None became then is not on record.
    del recorded["weight_decay_kind"]
    assert same_run.differences(recorded, config) == ["--mixup_alpha was 0.0, is 0.2"]


def test_only_several_workers_share_files():
    given = TrainConfig(shard_policy="file")
    (text,) = checks.warnings(given, resolve(given))
    assert text == "--shard_policy=file has no effect where one worker has all files, or images are drawn"
    assert checks.warnings(given, resolve(given), num_workers=2) == []


@pytest.mark.parametrize("field", dataclasses.fields(TrainConfig), ids=lambda field: field.name)
def test_only_what_cannot_make_it_another_run_may_differ(field):
    """Where and how long it trains, and what it shows and keeps, may change; what decides the weights may not."""
    free = {"train_dir", "dataset_dir", "eval_split_name", "max_number_of_steps", "num_epochs", "json"}
    free |= {"eval_every_epochs", "log_every_n_steps", "save_interval_secs", "keep_checkpoints"}
    free |= {
        "eval_every_steps",
        "save_every_epochs",
        "save_every_steps",
        "best_metric",
        "stop_at_top_1",
        "profile_steps",
        "recipe",
    }
    # It moves no weight, and comes after all that does.
    free |= {"recalibrate_batch_norm"}
    free |= {"dataset_num_private_threads", "data_service_address"}
    # However many share the batches, they are the same; of parameter servers nothing is promised.
    free |= {"ps_hosts", "job_name"}
    free |= {"strategy", "num_gpus", "worker_hosts", "task_index", "worker_timeout_secs", "max_restarts"}
    before = dataclasses.replace(resolve(TrainConfig()), precision="float32")
    changed = dataclasses.replace(before, **{field.name: "other"})
    told = same_run.differences(configs.to_json(before), changed)
    was = configs.to_json(before)[field.name]
    assert told == ([] if field.name in free else [f"--{field.name} was {was}, is other"])


def test_the_precision_of_a_run_is_part_of_it():
    """Where it was recorded as auto, by an older version, what that came to is not known."""
    config = dataclasses.replace(resolve(TrainConfig()), precision="float16")
    recorded = configs.to_json(config)
    assert same_run.differences(recorded | {"precision": "float32"}, config) == ["--precision was float32, is float16"]
    assert same_run.differences(recorded | {"precision": "auto"}, config) == []


def test_an_early_stop_and_statistics_measured_at_the_end_do_not_go_together():
    with pytest.raises(UserError, match="--stop_at_top_1 and --recalibrate_batch_norm do not go together"):
        resolve(TrainConfig(stop_at_top_1=0.9, recalibrate_batch_norm=100))


def test_scores_of_what_was_trained_on_are_warned_of():
    given = TrainConfig()
    resolved = dataclasses.replace(resolve(given), dataset_split_name="all", eval_split_name="all")
    (text,) = checks.warnings(given, resolved)
    assert text == "evaluations score the images of the training, split all; give --eval_split_name if there is another"
    assert checks.warnings(dataclasses.replace(given, eval_split_name="all"), resolved) == []
