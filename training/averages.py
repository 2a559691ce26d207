"""Moving averages of a network's variables, which often score better than the variables themselves.

Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992; in the form of
tf.train.ExponentialMovingAverage, which Slim's trainer used.
"""

import contextlib

import tensorflow as tf

from nets.checkpoints import AVERAGE


class MovingAverages(tf.Module):
    """average += (1 - decay) * (variable - average), for weights and for batch norm's statistics.

    As in Slim, the first steps use the lower decay (1 + step) / (10 + step), so that the initial values are soon
    forgotten.

    Attributes:
      variables_by_name: The averages by their names in a checkpoint, <variable>/ExponentialMovingAverage.
    """

    def __init__(self, variables_by_name, decay):
        """Makes an average of each variable, initialized with its value; call it in the scope of the strategy."""
        super().__init__()
        self._decay = decay
        self._strategy = tf.distribute.get_strategy()
        self._variables = list(variables_by_name.values())
        self._averages = [_average_of(name, variable) for name, variable in variables_by_name.items()]
        self.variables_by_name = {
            f"{name}{AVERAGE}": average for name, average in zip(variables_by_name, self._averages, strict=True)
        }

    def update(self, step):
        """Updates the averages, in a replica, after the variables; step is the int64 count before the update."""
        steps = tf.cast(step, tf.float32)
        weight = 1.0 - tf.minimum(self._decay, (1.0 + steps) / (10.0 + steps))
        for variable, average in self._pairs(trainable=False):
            # Each replica has its own statistics.
            average.assign_sub(weight * (average - variable))
        tf.distribute.get_replica_context().merge_call(self._update_mirrored, args=(weight,))

    def start(self):
        """Sets each average to its variable, as at the start of a run; not called in a replica."""
        for average, variable in zip(self._averages, self._variables, strict=True):
            average.assign(tf.convert_to_tensor(variable))

    @contextlib.contextmanager
    def in_place(self):
        """A context in which the variables hold the averages, on every device; restores them afterwards."""
        rows = [
            (variable, average)
            for mirrored in zip(self._variables, self._averages, strict=True)
            for variable, average in zip(*map(self._strategy.experimental_local_results, mirrored), strict=True)
        ]
        held = [tf.identity(variable) for variable, _ in rows]
        try:
            for variable, average in rows:
                variable.assign(average)
            yield
        finally:
            for (variable, _), value in zip(rows, held, strict=True):
                variable.assign(value)

    def _pairs(self, trainable):
        pairs = zip(self._variables, self._averages, strict=True)
        return [(variable, average) for variable, average in pairs if variable.trainable is trainable]

    def _update_mirrored(self, strategy, weight):
        def update(average, variable, weight):
            average.assign_sub(weight * (average - variable))

        for variable, average in self._pairs(trainable=True):
            strategy.extended.update(average, update, args=(variable, weight), group=False)


def _average_of(name, variable):
    options = {}
    if not variable.trainable:
        options = {
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.MEAN,
        }
    return tf.Variable(tf.convert_to_tensor(variable), trainable=False, name=f"{name}{AVERAGE}", **options)
