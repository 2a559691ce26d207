"""The training loop: one config in, one trained and evaluated network out."""

import contextlib
import dataclasses
import math
import pathlib
import sys
import tempfile
import time
from fractions import Fraction
from typing import NamedTuple

import tensorflow as tf

from command_line import UserError
from nets import checkpoints, nets_factory
from training import best, building, checks, curves, devices, fine_tuning, recalibration, run_description, same_run
from training import config as configs
from training.evaluation import Evaluator
from training.input import Input, open_data
from training.interrupts import StopRequest
from training.meter import Meter, shares_text
from training.profiling import Profile
from training.progress import Progress
from training.run_evaluation import RunEvaluation
from training.run_folder import RunFolder
from training.schedules import make_schedule
from training.shared_evaluation import SharedEvaluator
from training.stepping import Stepping
from training.workers import find_workers


class TrainResult(NamedTuple):
    """What came of a run.

    Attributes:
      step: Steps done in all.
      total_steps: Steps of the run; more than `step` when it was interrupted, or was good enough early.
      finished: Whether nothing is left to do: all steps are done, or --stop_at_top_1 was reached.
      asked: Whether a signal to this process ended it, not one to another worker.
      checkpoint: Prefix of the last checkpoint; None when the run was interrupted before its first step.
      evaluation: The result of the evaluation after that step, as `Evaluator.evaluate`'s; None in an interrupted run.
      images_per_second: Of the training steps of this process but the first, which traces the network; evaluation and
        saving are not in it. None before the second step.
    """

    step: int
    total_steps: int
    finished: bool
    asked: bool
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
    workers = find_workers(config)
    shared_flags = {name: value for name, value in configs.to_json(config).items() if name not in configs.OF_ONE_WORKER}
    with workers.explain_losses():
        devices.make_strategy(config, workers, shared_flags)
    network = nets_factory.find_network(config.model_name)
    dataset = open_data(config, network)
    given, config = config, configs.resolve(config, dataset, network)
    for text in checks.warnings(given, config, workers.count) if workers.is_chief else ():
        print(f"warning: {text}", file=sys.stderr)
    # On record is what it came to: taken up elsewhere, a run must not go on in another precision without a word.
    config = dataclasses.replace(config, precision=devices.resolve_precision(config.precision))
    with workers.explain_losses():
        same_run.check_workers(workers, dataset, config)
    with (
        workers.dismissed_at_the_end(),
        workers.explain_losses(),
        _place_of(workers, config.train_dir) as path,
        RunFolder(path, config.keep_checkpoints, is_ours=workers.is_chief) as folder,
        StopRequest() as stop,
    ):
        run = _Run(config, dataset, folder, stop, workers)
        try:
            result = run.run()
        except UserError:
            if folder.is_ours and curves.read(folder.path):
                _write_report(folder.path)  # Of a run that diverged it is wanted most.
            raise
        if result.step and folder.is_ours:
            _write_report(folder.path)
        return result


@contextlib.contextmanager
def _place_of(workers, train_dir):
    """The run's folder; for a worker that may not touch it, one that is soon gone."""
    if workers.is_chief:
        yield train_dir
    else:
        with tempfile.TemporaryDirectory() as path:
            yield pathlib.Path(path)


def _write_report(folder):
    """Writes the run's report; the run is what counts, whatever becomes of its report."""
    try:
        from reports import run_report

        run_report.write(folder)
    except Exception as error:
        print(f"warning: no report of the run in {folder}: {error}", file=sys.stderr)


class _Run:
    """The parts of one run, put together."""

    def __init__(self, config, dataset, folder, stop, workers):
        self._config = config
        self._folder = folder
        self._stop = stop
        self._workers = workers
        self._class_names = list(dataset.class_names[config.labels_offset :])
        self._image_count = dataset.num_records(config.dataset_split_name)
        # Exact: in floats 15 epochs of 50,000 images in batches of 48 are a step more than they are.
        self._steps_per_epoch = Fraction(self._image_count, config.batch_size)
        self._total_steps = config.max_number_of_steps or math.ceil(
            Fraction(str(config.num_epochs)) * self._steps_per_epoch
        )
        self._strategy = workers.strategy
        self._images_at_once = devices.images_at_once(config, self._strategy)
        before = workers.from_chief(lambda: same_run.earlier_description(folder, dataset, config, workers.count))
        if not before and folder.is_ours:
            best.forget(folder.path)
        source = before or workers.from_chief(lambda: fine_tuning.source_description(config)) or {}
        recorded, settings = source.get("preprocessing"), source.get("network", {})
        self._input = Input(config, dataset, recorded, workers)
        with self._strategy.scope():
            self._model = building.make_model(config, len(self._class_names), self._input.channels, settings)
        self._schedule = make_schedule(config, self._total_steps, self._steps_per_epoch)
        self._step, self._averages = building.make_step(config, self._model, self._schedule, self._strategy)
        self._values = self._model.variables_by_name | self._step.variables_by_name
        scored_on = devices.scoring_devices(config.precision, self._strategy, workers)
        evaluator = Evaluator(self._model, scored_on, devices.scoring_precision(config.precision))
        is_shared = workers.count > 1 or workers.cluster.servers
        self._evaluator = SharedEvaluator(evaluator, workers) if is_shared else evaluator
        self._evaluation = RunEvaluation(config, self._evaluator, self._averages, folder, stop, workers)
        self._origin = workers.from_chief(lambda: self._restore(before))
        workers.share(self._values.values())
        if self._origin and self._averages:
            self._averages.start()
        folder.begin()
        if folder.is_ours:
            checkpoints.write_description(folder.path, self._description())

    def run(self):
        """Trains from where the folder stands to the end; returns a TrainResult."""
        first_step = int(self._step.global_step.numpy())
        meter = Meter(first_step, self._total_steps, self._config.batch_size)
        profile = Profile(self._config.profile_steps, self._total_steps, self._folder.path)
        self._stepping = Stepping(self._config, self._step, self._input, self._workers, self._stop, first_step)
        is_chief = self._workers.is_chief
        writer = tf.summary.create_file_writer(str(self._folder.path))
        with Progress(first_step, self._total_steps, is_shown=is_chief) as progress, writer.as_default(), profile:
            self._begin(first_step, progress)
            parts = self._config.gradient_accumulation_steps
            check = recalibration.ModeCheck(self._workers, self._config.batch_size, parts)
            prefix, evaluation = self._folder.newest(), None
            (stop,) = self._workers.agree(self._stop)
            if self._workers.from_chief(lambda: self._is_to_be_scored_first(first_step)) and not stop:
                was_measured = first_step < self._total_steps or self._evaluation.is_recalibrated(first_step)
                if not was_measured and self._recalibrate(meter, progress):
                    prefix = self._save(first_step, meter)
                evaluation = self._evaluate(first_step, prefix, meter, progress)
                stop = evaluation is None
            saved_at, step, saved_step = time.monotonic(), first_step, first_step

            def next_due(step):
                return self._evaluation.next_due(step, self._total_steps, self._steps_per_epoch)

            def is_late():
                return is_chief and time.monotonic() - saved_at > self._config.save_interval_secs

            while not (self._is_finished(step, evaluation) or stop):
                for metrics in self._stepping.advance(step, next_due, is_late, meter, profile, check):
                    meter.add(metrics)
                    step += 1
                    evaluation = None
                    progress.step(step)
                    if step % self._config.log_every_n_steps == 0 or step == self._total_steps:
                        self._log(step, meter, progress)
                if step == self._total_steps:
                    self._recalibrate(meter, progress)
                due = self._evaluation.is_due(step, self._total_steps, self._steps_per_epoch)
                stop, late = self._workers.agree(self._stop, is_late())
                if due or late:
                    if step != saved_step:  # No step may be done where a stop came first.
                        prefix = self._save(step, meter)
                    saved_step, saved_at = step, time.monotonic()
                if due and not stop and evaluation is None:
                    evaluation = self._evaluate(step, prefix, meter, progress)
                    stop = evaluation is None
            if meter.losses_since_log():  # The end came between two log lines.
                self._log(step, meter, progress)
            if step != saved_step:
                prefix = self._save(step, meter)
            finished = evaluation is not None and self._is_finished(step, evaluation)
            if finished and not self._config.recalibrate_batch_norm:
                with self._evaluation.averages_in_place():
                    warning = check.warning(self._evaluator)
                if warning and is_chief:
                    print(warning, file=sys.stderr)
            if step > first_step:
                progress.say(f"time {sum(meter.seconds.values()):.1f} s: {shares_text(meter.seconds, decimals=2)}")
        pace = meter.images_per_second_of_all
        self._folder.wait()
        # The chief's folder holds it, whoever says so.
        prefix = self._workers.from_chief(lambda: prefix and str(prefix))
        return TrainResult(step, self._total_steps, finished, bool(self._stop), prefix, evaluation, pace)

    def _begin(self, first_step, progress):
        """Says what begins, notes it in the folder, and takes up the curves."""
        description = run_description.describe(
            self._model,
            first_step=first_step,
            total_steps=self._total_steps,
            steps_per_epoch=float(self._steps_per_epoch),
            train_images=self._image_count,
            devices=self._device_count(),
            workers=self._workers.count,
        )
        progress.say(run_description.headline(self._config, description))
        if self._origin:
            progress.say(self._origin)
        if first_step < self._total_steps:
            run_description.write(self._folder.path, description)
        self._curves = curves.Curves(self._folder.path, first_step)

    def _device_count(self):
        """The devices that train."""
        apart = len(self._workers.cluster.workers) - 1 if self._workers.cluster.servers else 1
        return self._strategy.num_replicas_in_sync * apart

    def _restore(self, before):
        """Takes the values to begin with from a checkpoint, if there is one; a new run's line on what it took."""
        if before:
            checkpoints.restore(self._folder.newest(), self._values)
        elif self._config.checkpoint_path is not None:
            return fine_tuning.restore(self._config, self._model, self._folder.path)
        return None

    def _is_finished(self, step, evaluation):
        return step >= self._total_steps or self._evaluation.is_good_enough(evaluation)

    def _is_to_be_scored_first(self, step):
        """Whether a run goes on with an evaluation: that of its end, or one in which it was interrupted."""
        if step == 0 or step >= self._total_steps:
            return step > 0
        noted = self._folder.evaluation()
        if noted and noted["step"] == step:
            return self._evaluation.is_good_enough(noted)
        return self._evaluation.is_due(step, self._total_steps, self._steps_per_epoch)

    def _evaluate(self, step, prefix, meter, progress):
        meter.enter("evaluation")
        result = self._evaluation.run(
            self._input,
            self._images_at_once,
            self._class_names,
            step,
            prefix,
            progress,
        )
        if result is not None:
            self._curves.add_evaluation(step, self._config.eval_split_name, result, meter.take_seconds())
            recalibrated = self._config.recalibrate_batch_norm if step >= self._total_steps else 0
            self._folder.note(step, result, self._is_finished(step, result), recalibrated)
            if step < self._total_steps and self._evaluation.is_good_enough(result):
                progress.say(f"--stop_at_top_1={self._config.stop_at_top_1} is reached")
        return result

    def _recalibrate(self, meter, progress):
        """Does what --recalibrate_batch_norm asks for; False where that is nothing, or when it was stopped."""
        if not self._config.recalibrate_batch_norm:
            return False
        meter.enter("evaluation")
        return self._evaluation.recalibrate(self._model, self._values, self._stepping.local_images(), progress)

    def _save(self, step, meter):
        """Saves, but nothing that is spoilt: a run can always go on from the newest checkpoint of its folder."""
        self._check_losses(step, meter)
        meter.enter("checkpoint")
        values = self._model.variables_by_name.values()
        if not all(bool(tf.reduce_all(tf.math.is_finite(value))) for value in values):
            self._record(step, meter)
            raise self._diverged("a weight or a moving average is not finite", step)
        return self._folder.save(step, self._values)

    def _check_losses(self, step, meter):
        losses = meter.losses_since_log()
        for step_of_loss, loss in enumerate(losses, start=step - len(losses) + 1):
            if not math.isfinite(loss):
                meter.forget_all_but(step_of_loss - 1 - (step - len(losses)))
                self._record(step_of_loss - 1, meter)
                raise self._diverged(f"the loss is {loss}", step_of_loss)

    def _diverged(self, finding, step):
        rate = float(self._schedule(tf.constant(step - 1, tf.int64)))
        with contextlib.suppress(UserError):  # That the last one could not be written is not what ends the run.
            self._folder.wait()
        # Only the chief's folder holds some.
        newest = f"; last good checkpoint: {self._folder.newest() or 'none'}" if self._folder.is_ours else ""
        return UserError(
            f"{finding} at step {step}, learning rate {rate:.6g}; lower --learning_rate or warm up longer "
            f"(--warmup_epochs){newest}"
        )

    def _log(self, step, meter, progress):
        self._check_losses(step, meter)  # On a device that is still at work this waits for its steps.
        progress.log(step, self._record(step, meter))

    def _record(self, step, meter):
        """Adds the steps since the last log line, if there are any, to the curves; returns what was meter.Measured."""
        if not meter.losses_since_log():
            return None
        meter.enter("summary")
        measured = meter.take(step)
        for name, value in measured.metrics.items():
            tf.summary.scalar(f"train/{name}", value, step)
        if measured.images_per_second:
            tf.summary.scalar("train/images_per_second", measured.images_per_second, step)
        self._curves.add_training(step, measured)
        return measured

    def _description(self):
        """What model.json holds; see `checkpoints.read_description`."""
        return {
            "network": self._model.settings,
            "preprocessing": self._input.settings,
            "labels_offset": self._config.labels_offset,
            "label_names": self._class_names,
            "training": configs.to_json(self._config),
        }
