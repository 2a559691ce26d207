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
from training.every import Every
from training.input import Input, open_data
from training.interrupts import StopRequest
from training.logbook import Logbook
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
    """The result of a run.

    Attributes:
      step: Steps done in total.
      total_steps: Steps of the run; more than `step` if it was interrupted or reached --stop_at_top_1 early.
      finished: Whether nothing is left to do: all steps are done, or --stop_at_top_1 was reached.
      asked: Whether a signal to this process ended it, not one to another worker.
      checkpoint: Prefix of the last checkpoint; None if the run was interrupted before its first step.
      evaluation: The evaluation after that step, as `Evaluator.evaluate` returns it; None in an interrupted run.
      images_per_second: Over this process's training steps except the first, which traces the network; excludes
        evaluation and saving. None before the second step.
    """

    step: int
    total_steps: int
    finished: bool
    asked: bool
    checkpoint: str | None
    evaluation: dict | None
    images_per_second: float | None


def train(config):
    """Trains a network, or resumes its training, as the config says.

    Args:
      config: A configs.TrainConfig.

    Returns:
      A TrainResult. Its checkpoint holds the weights, the velocities and the step, which is also the input position. So
      a run that was stopped and resumed equals one that was not, bit for bit on a CPU.

    Raises:
      UserError: If a flag, the data or a checkpoint is bad, or the loss is no longer finite.
    """
    fine_tuning.check(config)
    workers = find_workers(config)
    with workers.explain_losses():
        devices.make_strategy(config, workers, same_run.shared_flags(config))
    network = nets_factory.find_network(config.model_name)
    dataset = open_data(config, network)
    given, config = config, configs.resolve(config, dataset, network)
    for text in checks.warnings(given, config, workers.count) if workers.is_chief else ():
        print(f"warning: {text}", file=sys.stderr)
    # The resolved precision is recorded, so that a run resumed elsewhere does not silently switch to another one.
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
                _write_report(folder.path)  # A run that diverged needs its report most.
            raise
        if result.step and folder.is_ours:
            _write_report(folder.path)
        return result


@contextlib.contextmanager
def _place_of(workers, train_dir):
    """The run's folder; for a worker that may not touch it, a temporary one."""
    if workers.is_chief:
        yield train_dir
    else:
        with tempfile.TemporaryDirectory() as path:
            yield pathlib.Path(path)


def _write_report(folder):
    """Writes the run's report; a failure only warns, because the run itself is what counts."""
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
        # Exact: with floats, 15 epochs of 50,000 images in batches of 48 would get one step too many.
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
        size = self._steps_per_epoch, self._total_steps
        self._evaluations = Every(config.eval_every_steps, config.eval_every_epochs, *size)
        self._saves = Every(config.save_every_steps, config.save_every_epochs, *size)
        self._origin = workers.from_chief(lambda: self._restore(before))
        workers.share(self._values.values())
        if self._origin and self._averages:
            self._averages.start()
        folder.begin()
        if folder.is_ours:
            checkpoints.write_description(folder.path, self._description())

    def run(self):
        """Trains from the state in the folder to the end; returns a TrainResult."""
        first_step = int(self._step.global_step.numpy())
        meter = Meter(first_step, self._total_steps, self._config.batch_size)
        profile = Profile(self._config.profile_steps, first_step, self._total_steps, self._folder.path)
        self._stepping = Stepping(self._config, self._step, self._input, self._workers, self._stop, first_step)
        is_chief = self._workers.is_chief
        writer = tf.summary.create_file_writer(str(self._folder.path))
        with Progress(first_step, self._total_steps, is_shown=is_chief) as progress, writer.as_default(), profile:
            book = self._begin(first_step, meter, progress)
            parts = self._config.gradient_accumulation_steps
            check = recalibration.ModeCheck(self._workers, self._config.batch_size, parts)
            prefix, evaluation = self._folder.newest(), None
            (stop,) = self._workers.agree(self._stop)
            if self._workers.from_chief(lambda: self._is_to_be_scored_first(first_step)) and not stop:
                was_measured = first_step < self._total_steps or self._evaluation.is_recalibrated(first_step)
                if not was_measured and self._recalibrate(meter, progress):
                    prefix = book.save(first_step)
                evaluation = self._evaluate(first_step, prefix, meter, progress, book)
                stop = evaluation is None
            saved_at, step, saved_step = time.monotonic(), first_step, first_step

            def next_due(step):
                return min(self._evaluations.next(step), self._saves.next(step))

            def is_late():
                return is_chief and time.monotonic() - saved_at > self._config.save_interval_secs

            while not (self._is_finished(step, evaluation) or stop):
                for metrics in self._stepping.advance(step, next_due, is_late, meter, profile, check):
                    meter.add(metrics)
                    step += 1
                    evaluation = None
                    progress.step(step)
                    if step % self._config.log_every_n_steps == 0 or step == self._total_steps:
                        book.log(step)
                if step == self._total_steps:
                    self._recalibrate(meter, progress)
                due = self._evaluations.is_due(step)
                stop, late = self._workers.agree(self._stop, is_late())
                if due or late or self._saves.is_due(step):
                    if step != saved_step:  # A stop may have come before any step.
                        prefix = book.save(step)
                    saved_step, saved_at = step, time.monotonic()
                if due and not stop and evaluation is None:
                    evaluation = self._evaluate(step, prefix, meter, progress, book)
                    stop = evaluation is None
            if meter.losses_since_log():  # The end came between two log lines.
                book.log(step)
            if step != saved_step:
                prefix = book.save(step)
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
        # The prefix is in the chief's folder, on every worker.
        prefix = self._workers.from_chief(lambda: prefix and str(prefix))
        return TrainResult(step, self._total_steps, finished, bool(self._stop), prefix, evaluation, pace)

    def _begin(self, first_step, meter, progress):
        """Prints and records what begins; returns the Logbook, which continues the curves."""
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
        continued = curves.Curves(self._folder.path, first_step)
        return Logbook(self._folder, self._model, self._values, self._schedule, meter, progress, continued)

    def _device_count(self):
        """The number of devices that train."""
        apart = len(self._workers.cluster.workers) - 1 if self._workers.cluster.servers else 1
        return self._strategy.num_replicas_in_sync * apart

    def _restore(self, before):
        """Restores from a checkpoint, if there is one; for a new run, returns a line that says what was restored."""
        if before:
            checkpoints.restore(self._folder.newest(), self._values)
        elif self._config.checkpoint_path is not None:
            return fine_tuning.restore(self._config, self._model, self._class_names, self._folder.path)
        return None

    def _is_finished(self, step, evaluation):
        return step >= self._total_steps or self._evaluation.is_good_enough(evaluation)

    def _is_to_be_scored_first(self, step):
        """Whether a run continues with an evaluation: the one at its end, or one that was interrupted."""
        if step == 0 or step >= self._total_steps:
            return step > 0
        noted = self._folder.evaluation()
        if noted and noted["step"] == step:
            return self._evaluation.is_good_enough(noted)
        return self._evaluations.is_due(step)

    def _evaluate(self, step, prefix, meter, progress, book):
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
            book.add_evaluation(step, self._config.eval_split_name, result)
            recalibrated = self._config.recalibrate_batch_norm if step >= self._total_steps else 0
            self._folder.note(step, result, self._is_finished(step, result), recalibrated)
            if step < self._total_steps and self._evaluation.is_good_enough(result):
                progress.say(f"--stop_at_top_1={self._config.stop_at_top_1} is reached")
        return result

    def _recalibrate(self, meter, progress):
        """Does what --recalibrate_batch_norm asks for; False if that is nothing, or if it was stopped."""
        if not self._config.recalibrate_batch_norm:
            return False
        meter.enter("evaluation")
        return self._evaluation.recalibrate(self._model, self._values, self._stepping.local_images(), progress)

    def _description(self):
        """What model.json holds; see `checkpoints.read_description`."""
        return {
            "network": self._model.settings,
            "preprocessing": self._input.settings,
            "labels_offset": self._config.labels_offset,
            "label_names": self._class_names,
            "training": configs.to_json(self._config),
        }
