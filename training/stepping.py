"""The training steps of a run, one after the other: here, on all workers at once, or dealt out by parameter servers."""

from command_line import UserError
from training import devices, parameter_servers


class Stepping:
    """Fetches batches and does steps."""

    def __init__(self, config, step, source, workers, stop, first_step):
        """Makes the input from a step on.

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
        self._strategy = workers.strategy
        self._batches = iter(devices.distribute(self._strategy, workers, source.training_batches(first_step)))
        self._dealer = parameter_servers.Dealer(step, source, workers, stop) if workers.cluster.servers else None

    def advance(self, step, last_step, meter, profile, check):
        """Does a step; or those up to another, where steps go on apart from each other.

        Args:
          step: Steps done.
          last_step: Steps that may be done before something has to be done with the network as it is then.
          meter: A meter.Meter, which is told what the time goes to.
          profile: A profiling.Profile.
          check: A recalibration.ModeCheck, which gets the batch where it is here.

        Yields:
          The metrics of each step, as of `TrainStep.step`.
        """
        if self._dealer:
            meter.enter("step")
            with self._source.explain_errors(self._config.dataset_split_name):
                yield from self._dealer.run(step, last_step)
            return
        meter.enter("input")
        batch = self._next()
        meter.enter("step")
        with profile.step(step + 1):
            metrics = self._step.step(*batch)
        check.add(*batch, metrics)
        yield metrics

    def local_images(self):
        """The images of the batches that would come next, of each device of this process."""
        while True:
            yield from self._strategy.experimental_local_results(self._next()[0])

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
