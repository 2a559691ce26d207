"""The training loop: one config in, one trained and evaluated network out."""

import contextlib
import math
import time
from typing import NamedTuple

import tensorflow as tf

from command_line import UserError
from data import records
from nets import checkpoints, nets_factory
from training import building, devices, fine_tuning
from training import config as configs
from training.evaluation import Evaluator
from training.input import Input, open_data
from training.interrupts import Stopped, StopRequest
from training.meter import Meter
from training.progress import Progress
from training.run_folder import RunFolder
from training.schedules import make_schedule


class TrainResult(NamedTuple):
    """What came of a run.

    Attributes:
      step: Steps done in all.
      total_steps: Steps of the run; more than `step` when it was interrupted.
      checkpoint: Prefix of the last checkpoint; None when the run was interrupted before its first step.
      evaluation: The result of the evaluation after that step, as `Evaluator.evaluate`'s; None in an interrupted run.
      images_per_second: Of the training steps of this process but the first, which traces the network; evaluation and
        saving are not in it. None before the second step.
    """

    step: int
    total_steps: int
    checkpoint: str | None
    evaluation: dict | None
    images_per_second: float | None


def train(config):
    """Trains, or goes on training, as the config says.

    Args:
      config: A configs.TrainConfig.

    Returns:
      A TrainResult. Its checkpoint holds the weights, the velocities and the step, and the step is the input position:
      a run that was stopped and taken up again equals one that was not, bit for bit on a CPU.

    Raises:
      UserError: If a flag, the data or a checkpoint is bad, or the loss is no longer finite.
    """
    fine_tuning.check(config)
    network = nets_factory.find_network(config.model_name)
    dataset = open_data(config, network)
    config = configs.resolve(config, dataset, network)
    with RunFolder(config.train_dir, config.max_to_keep) as folder, StopRequest() as stop:
        return _Run(config, dataset, folder, stop).run()


class _Run:
    """The parts of one run, put together."""

    def __init__(self, config, dataset, folder, stop):
        self._config = config
        self._dataset = dataset
        self._folder = folder
        self._stop = stop
        self._class_names = list(dataset.class_names[config.labels_offset :])
        self._image_count = dataset.num_records(config.dataset_split_name)
        self._steps_per_epoch = self._image_count / config.batch_size
        self._total_steps = config.max_number_of_steps or math.ceil(config.num_epochs * self._steps_per_epoch)
        self._strategy = devices.make_strategy()
        replicas = self._strategy.num_replicas_in_sync
        if config.batch_size % replicas:
            raise UserError(f"--batch_size is {config.batch_size}, expected a multiple of the {replicas} devices")
        parts = config.gradient_accumulation_steps
        if config.batch_size // replicas % parts:
            raise UserError(
                f"--gradient_accumulation_steps is {parts}, expected a divisor of the {config.batch_size // replicas} "
                "images that a device takes of a batch; change it or --batch_size"
            )
        before = self._description_of_earlier_run()
        self._input = Input(config, dataset, before and before["preprocessing"])
        settings = before["network"] if before else fine_tuning.source_settings(config)
        with self._strategy.scope():
            self._model = building.make_model(config, len(self._class_names), self._input.channels, settings)
        self._schedule = make_schedule(config, self._total_steps, self._steps_per_epoch)
        self._step, self._averages = building.make_step(config, self._model, self._schedule, self._strategy)
        self._values = self._model.variables_by_name | self._step.variables_by_name
        self._evaluator = Evaluator(self._model)
        self._origin = None
        if before:
            checkpoints.restore(folder.newest(), self._values)
        elif config.checkpoint_path is not None:
            self._origin = fine_tuning.restore(config, self._model, folder.path)
            if self._averages:
                self._averages.start()
        checkpoints.write_description(folder.path, self._description())

    def run(self):
        """Trains from where the folder stands to the end; returns a TrainResult."""
        first_step = int(self._step.global_step.numpy())
        batches = iter(self._strategy.experimental_distribute_dataset(self._input.training_batches(first_step)))
        writer = tf.summary.create_file_writer(str(self._folder.path))
        with Progress(first_step, self._total_steps) as progress, writer.as_default():
            progress.say(self._headline(first_step))
            if self._origin:
                progress.say(self._origin)
            meter = Meter(first_step, self._total_steps, self._config.batch_size)
            saved_at, evaluation = time.monotonic(), None
            prefix = self._folder.newest()
            step = saved_step = first_step
            while step < self._total_steps and not self._stop:
                meter.add(self._step.step(*self._next(batches)))
                step += 1
                evaluation = None
                progress.step(step)
                if step % self._config.log_every_n_steps == 0 or step == self._total_steps:
                    self._log(step, meter, progress)
                due = self._evaluation_is_due(step)
                if due or time.monotonic() - saved_at > self._config.save_interval_secs:
                    meter.pause()
                    prefix = self._save(step, meter)
                    saved_step, saved_at = step, time.monotonic()
                if due and not self._stop:
                    evaluation = self._evaluate(step, progress)
                meter.resume()
            if step != saved_step:
                prefix = self._save(step, meter)
            if step == first_step and not self._stop:
                evaluation = self._evaluate(step, progress)
        prefix = prefix and str(prefix)
        return TrainResult(step, self._total_steps, prefix, evaluation, meter.images_per_second_of_all)

    def _next(self, batches):
        with records.explain_errors(self._dataset, self._config.dataset_split_name, self._config.labels_offset):
            try:
                return next(batches)
            except StopIteration:
                # Training batches are endless, unless other machines make them.
                raise UserError(
                    f"the tf.data service at {self._config.data_service_address} has lost a worker; start it anew, and "
                    "the same command goes on from the last checkpoint"
                ) from None

    def _evaluation_is_due(self, step):
        interval = self._config.eval_every_epochs * self._steps_per_epoch
        return step == self._total_steps or (interval > 0 and step // interval > (step - 1) // interval)

    def _evaluate(self, step, progress):
        config = self._config
        split = config.eval_split_name
        try:
            with records.explain_errors(self._dataset, split, config.labels_offset):
                batches = self._input.evaluation_batches()
                with self._averages.in_place() if self._averages else contextlib.nullcontext():
                    result = self._evaluator.evaluate(batches, self._class_names, on_batch=self._stop.check)
        except Stopped:
            return None
        for name in ("top_1", "top_5", "cross_entropy"):
            tf.summary.scalar(f"{split}/{name}", result[name], step)
        progress.say(
            f"step {step}: {split} top-1 {result['top_1']:.4f}, top-5 {result['top_5']:.4f}, cross-entropy "
            f"{result['cross_entropy']:.4f} ({result['count']} images)"
        )
        return result

    def _save(self, step, meter):
        """Saves, but nothing that is spoilt: a run can always go on from the newest checkpoint of its folder."""
        self._check_losses(step, meter)
        values = self._model.variables_by_name.values()
        if not all(bool(tf.reduce_all(tf.math.is_finite(value))) for value in values):
            raise self._diverged("a weight or a moving average is not finite", step)
        return self._folder.save(step, self._values)

    def _check_losses(self, step, meter):
        losses = meter.losses_since_log()
        for step_of_loss, loss in enumerate(losses, start=step - len(losses) + 1):
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is {loss}", step_of_loss)

    def _diverged(self, finding, step):
        rate = float(self._schedule(tf.constant(step - 1, tf.int64)))
        return UserError(
            f"{finding} at step {step}, learning rate {rate:.6g}; lower --learning_rate or warm up longer "
            f"(--warmup_epochs); last good checkpoint: {self._folder.newest() or 'none'}"
        )

    def _log(self, step, meter, progress):
        self._check_losses(step, meter)
        metrics, images_per_second, seconds_left = meter.take(step)
        for name, value in metrics.items():
            tf.summary.scalar(f"train/{name}", value, step)
        if images_per_second:
            tf.summary.scalar("train/images_per_second", images_per_second, step)
        progress.log(step, metrics, images_per_second, seconds_left)

    def _headline(self, first_step):
        config = self._config
        parameters = sum(int(tf.size(variable)) for variable in self._model.trainable_variables)
        start = f"from step {first_step} of {self._total_steps}" if first_step else f"{self._total_steps} steps"
        if first_step >= self._total_steps:
            start = (
                f"already at step {first_step} of {self._total_steps} (--num_epochs or another --train_dir trains on)"
            )
        return (
            f"{config.model_name} ({parameters:,} parameters) on {self._dataset.name} ({self._image_count} images, "
            f"{config.train_image_size} pixels), batch {config.batch_size}, {self._model.compute_dtype.name}, "
            f"{self._strategy.num_replicas_in_sync} device(s), folder {self._folder.path}: {start}"
        )

    def _description(self):
        """What model.json holds; see `checkpoints.read_description`."""
        return {
            "network": self._model.settings,
            "preprocessing": self._input.settings,
            "labels_offset": self._config.labels_offset,
            "label_names": self._class_names,
            "training": configs.to_json(self._config),
        }

    def _description_of_earlier_run(self):
        """The description of the run that the folder's checkpoint comes from, or None without a checkpoint.

        Raises:
          UserError: If that was another run than this one.
        """
        if self._folder.newest() is None:
            return None
        description = checkpoints.read_description(self._folder.path)
        different = configs.differences(description.get("training", {}), self._config)
        if different:
            raise UserError(
                f"{self._folder.path} holds another run: {'; '.join(different)}. Give the same flags to go on with it, "
                "or another --train_dir"
            )
        return description
