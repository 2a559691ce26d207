"""Exact evaluation by all workers of a run: each scores its own batches, and the counts are summed."""

import numpy as np

from training.evaluation import Tally
from training.interrupts import Stopped


class SharedEvaluator:
    """As evaluation.Evaluator; every worker has to call it.

    A moving statistic of the network is the mean over the workers, which each reading would have to ask for again: the
    evaluator scores copies.
    """

    def __init__(self, evaluator, workers):
        """Args: evaluator: an Evaluator with devices; workers: the workers.Workers of the run."""
        self._workers = workers
        self._evaluator = evaluator

    def predictions(self, batches):
        """As `Evaluator.predictions`, for this worker's batches; every worker has to start them."""
        return self._evaluator.predictions(batches)

    def evaluate(self, batches, class_names, on_batch=None):
        """As `Evaluator.evaluate`, with this worker's batches and the result of all; Stopped on one stops all."""
        classes = len(class_names)
        stopped = 0
        try:
            mine = self._evaluator.tally(batches, classes, on_batch)
        except Stopped:
            mine, stopped = Tally(np.zeros([classes, classes], np.int64), 0, 0.0, 0), 1
        *totals, stopped = self._workers.sum(
            [mine.confusion, np.int64(mine.hits_5), np.float64(mine.cross_entropy), np.int64(mine.not_finite), stopped]
        )
        if stopped:
            raise Stopped
        return Tally(*totals).scores(class_names)
