"""Runs the training steps: in this process, on all workers together, or handed out to workers of parameter servers."""

from command_line import UserError
from training import dealing, devices, parameter_servers


class Stepping:
    """Fetches batches and runs steps."""

    def __init__(self, config, step, source, workers, stop, first_step):
        """Makes the input, from a step on.

        Args:
          config: A resolved TrainConfig.
          step: A step.TrainStep made under the workers' strategy.
          source: The input.Input of the run.
          workers: Its workers.Workers.
          stop: A StopRequest.
          first_step: Steps done before.
        """
        self._config = config
        self._step = step
        self._source = source
        self._workers = workers
        self._first_step = first_step
        self._batches = self._dealer = None
        if workers.cluster.servers:
            self._dealer = dealing.make_dealer(step, source, workers, stop)
        else:
            self._batches = iter(devices.distribute(workers.strategy, workers, source.training_batches(first_step)))

    def advance(self, step, next_due, is_late, meter, profile, check):
        """Runs a step or, if workers run steps independently, all steps until they have to wait for each other.

        Args:
          step: Steps done.
          next_due: A function from the steps done to the step after which it is next to be scored or saved.
          is_late: A function that tells whether the run is due to save by the clock.
          meter: A meter.Meter, which is told where the time goes.
          profile: A profiling.Profile.
          check: A recalibration.ModeCheck, which gets the batch if this process has it.

        Yields:
          The metrics of each step, as from `TrainStep.step`.
        """
        if self._dealer:
            meter.enter("step")
            with parameter_servers.explain_errors(self._workers.cluster, self._config.dataset_dir):
                for metrics in self._dealer.run(step, next_due(step), is_late):
                    yield metrics
                    meter.enter("step")  # The caller may have entered another phase.
            return
        meter.enter("input")
        batch = self._next()
        meter.enter("step")
        with profile.step(step + 1):
            metrics = self._step.step(*batch)
        check.add(*batch, metrics)
        yield metrics

    def local_images(self):
        """The images of the batches that would come next, for each device of this process."""
        if self._dealer:  # The batches go to the workers, not to this process.
            self._batches = iter(self._source.training_batches(self._first_step))
        while True:
            yield from self._workers.strategy.experimental_local_results(self._next()[0])

    def _next(self):
        with self._source.explain_errors(self._config.dataset_split_name):
            try:
                return next(self._batches)
            except StopIteration:
                # Training batches are endless, unless other machines make them.
                raise UserError(
                    f"the tf.data service at {self._config.data_service_address} has lost a worker; start it anew, and "
                    "the same command goes on from the last checkpoint"
                ) from None
