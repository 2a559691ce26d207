"""The evaluations of a run while it trains, and what is done with their results."""

import contextlib
import math

import tensorflow as tf

from nets import checkpoints
from training import best, fine_tuning, mistakes, recalibration
from training.interrupts import Stopped


class RunEvaluation:
    """Scores the network on the run's evaluation split: the moving averages, if any."""

    def __init__(self, config, evaluator, averages, folder, stop, workers):
        """Makes it from the parts of a run.

        Args:
          config: A resolved TrainConfig.
          evaluator: An evaluation.Evaluator of the network.
          averages: An averages.MovingAverages, or None.
          folder: The run's RunFolder.
          stop: A StopRequest, which ends an evaluation.
          workers: The workers.Workers of the run, all of which have to call `run`.
        """
        self._config = config
        self._evaluator = evaluator
        self._averages = averages
        self._folder = folder
        self._stop = stop
        self._workers = workers

    def run(self, source, batch_size, class_names, step, prefix, progress):
        """Scores the network; keeps its checkpoint if it is the best, and the data for the run's report.

        Args:
          source: The input.Input of the run.
          batch_size: Images to score at once.
          class_names: A name for each class.
          step: Steps done.
          prefix: The checkpoint that holds the network; None before there is one.
          progress: A Progress, which gets a line.

        Returns:
          The result of `Evaluator.evaluate`; None if it was interrupted.
        """
        config = self._config
        split = config.eval_split_name
        first_record, turns = source.places(batch_size)
        worst = mistakes.Mistakes(workers=self._workers, first_record=first_record, turns=turns)

        def stoppable(batches):
            # Checked only within the evaluation, which workers do together: one that left before it would leave the
            # others waiting. Within it, a stop of one ends it for all.
            self._stop.check()
            for batch in batches:
                self._stop.check()
                yield batch

        try:
            with source.explain_errors(split), self.averages_in_place():
                batches = stoppable(source.evaluation_batches(batch_size))
                result = self._evaluator.evaluate(batches, class_names, worst.add)
        except Stopped:
            return None
        # The checkpoint has to be written before anything is reported about its scores.
        self._folder.wait()
        mistakes.write(self._folder.path, step, split, result["confusion_matrix"], worst.worst())
        for name in ("top_1", "top_5", "cross_entropy"):
            # "train/" is of the training itself.
            tf.summary.scalar(f"eval_train/{name}" if split == "train" else f"{split}/{name}", result[name], step)
        progress.say(
            f"step {step}: {split} top-1 {result['top_1']:.4f}, top-5 {result['top_5']:.4f}, cross-entropy "
            f"{result['cross_entropy']:.4f} ({result['count']} images)"
        )
        if prefix and self._folder.is_ours and config.best_metric != "none":
            best.keep(self._folder.path, prefix, step, result, config.best_metric, split)
        return result

    def is_recalibrated(self, step):
        """Whether the checkpoint of a step was scored with norms recalibrated as --recalibrate_batch_norm asks for."""

        def is_noted():
            noted = self._folder.evaluation()
            wanted = {"step": step, "recalibrate_batch_norm": self._config.recalibrate_batch_norm}
            return noted is not None and wanted.items() <= noted.items()

        return self._workers.from_chief(is_noted)

    def recalibrate(self, model, values, batches, progress):
        """Measures batch norm's statistics again, as --recalibrate_batch_norm asks for.

        Args:
          model: The SlimModel of the run.
          values: Variables by name: the model's and, if any, the moving averages, which then get the statistics.
          batches: Endless; yields this process's images of the batches that would come next.
          progress: A Progress, which gets a line.

        Returns:
          False if it was interrupted, or no norm uses the batch; then nothing has changed.
        """
        config, statistics = self._config, None
        if not fine_tuning.trains_norms(config, model):
            progress.say("--recalibrate_batch_norm has no effect: all norms are frozen")
            return False

        def stoppable():
            for images in batches:
                self._stop.check()
                yield images

        own_count = math.ceil(config.recalibrate_batch_norm / self._workers.count)
        mode = fine_tuning.mode_of_norms(config, model)
        with contextlib.suppress(Stopped), self.averages_in_place():
            statistics, count = recalibration.estimate(
                model, stoppable(), own_count, mode, config.gradient_accumulation_steps
            )
        if any(self._workers.agree(statistics is None)):
            return False
        # All workers have taken the same number of images.
        totals = self._workers.sum(list(statistics.values()))
        for name, total in zip(statistics, totals, strict=True):
            # Assigned to what is evaluated: the weights need other statistics than their averages.
            variable = values[f"{name}{checkpoints.AVERAGE}" if self._averages else name]
            variable.assign(total / self._workers.count)
        progress.say(f"batch norm's statistics measured anew on {count * self._workers.count} training images")
        return True

    def averages_in_place(self):
        """A context in which the network holds what is evaluated: the moving averages, if any."""
        return self._averages.in_place() if self._averages else contextlib.nullcontext()

    def is_good_enough(self, result):
        """Whether the run may end early with this result (None for no result)."""
        wanted = self._config.stop_at_top_1
        return wanted is not None and result is not None and result["top_1"] >= wanted
