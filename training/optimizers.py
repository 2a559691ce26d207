"""The update of the weights, and the loss scale that float16 needs."""

import tensorflow as tf

from training.config import TrainConfig
from training.update_rules import RULES, Now


class Optimizer(tf.Module):
    """Applies a rule of update_rules to variables, also under a tf.distribute strategy.

    Attributes:
      slots_by_name: Its state in a checkpoint: a dict of name -> variable, with slots as <variable>/<ending> and powers
        of betas under their own names, as in tf.compat.v1.train's optimizers.
    """

    def __init__(self, variables_by_name, rule, decays=None):
        """Makes the slots; call it in the scope of the strategy.

        Args:
          variables_by_name: The variables to train, by name.
          rule: An update_rules.Rule.
          decays: Decoupled weight decay, variable -= rate * decay * variable, by name of the variable; 0 if missing. A
            rule with `decays` applies it in its own way.
        """
        super().__init__()
        self._rule = rule
        self._variables = list(variables_by_name.values())
        self._decays = [(decays or {}).get(name, 0.0) for name in variables_by_name]
        self._slots = [
            [_slot(f"{name}/{ending}", tf.fill(variable.shape, start)) for ending, start in rule.slots.items()]
            for name, variable in variables_by_name.items()
        ]
        options = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self._powers = {name: tf.Variable(beta, name=name, **options) for name, beta in rule.betas.items()}
        names = [f"{name}/{ending}" for name in variables_by_name for ending in rule.slots]
        slots = [slot for slots in self._slots for slot in slots]
        self.slots_by_name = dict(zip(names, slots, strict=True)) | self._powers

    def apply(self, gradients, learning_rate, keep=None):
        """Updates the variables; called in a replica.

        Args:
          gradients: Float32 gradients, already summed over the replicas, in the order of the variables.
          learning_rate: Float32 scalar.
          keep: Boolean scalar; False leaves variables and slots exactly as they are. None is always True.
        """
        powers = tuple(tf.convert_to_tensor(power) for power in self._powers.values())
        context = tf.distribute.get_replica_context()
        context.merge_call(self._update_all, args=(gradients, learning_rate, powers, keep))
        for power, beta in zip(self._powers.values(), self._rule.betas.values(), strict=True):
            power.assign(power * beta if keep is None else tf.where(keep, power * beta, power))

    def _update_all(self, strategy, gradients, learning_rate, powers, keep):
        def update(variable, slots, gradient, rate, powers, keep, decay):
            def move():
                if decay and not self._rule.decays:
                    variable.assign_sub(rate * decay * variable)
                self._rule.update(variable, slots, gradient, Now(rate, powers, decay))
                return ()

            # The branch is within one device, because it is not allowed around the merge over the replicas.
            return move() if keep is None else tf.cond(keep, move, tuple)

        for variable, slots, gradient, decay in zip(self._variables, self._slots, gradients, self._decays, strict=True):
            arguments = (tuple(slots), gradient, learning_rate, powers, keep, decay)
            strategy.extended.update(variable, update, args=arguments, group=False)


def make_momentum(variables_by_name, momentum=0.9):
    """Makes stochastic gradient descent with momentum, as tf.compat.v1.train.MomentumOptimizer."""
    return Optimizer(variables_by_name, RULES["momentum"](TrainConfig(momentum=momentum)))


def make_optimizer(config, variables_by_name):
    """Makes the optimizer that the flags name; call it in the scope of the strategy.

    Args:
      config: A resolved TrainConfig.
      variables_by_name: The variables to train, by name.
    """
    rule = RULES[config.optimizer](config)
    decays = {}
    if rule.decays or config.weight_decay_kind == "decoupled":
        decays = {name: config.weight_decay for name in variables_by_name if is_decayed(config, name)}
    return Optimizer(variables_by_name, rule, decays)


def is_decayed(config, name):
    """Whether the variable of this name is decayed: weights of convolutions, or all if the flags say so."""
    return config.decay_norm_and_bias or name.endswith("/weights")


def decay_loss(config, model):
    """The function that computes what weight decay adds to the loss, a float32 scalar; see `TrainStep`."""
    if config.weight_decay_kind == "decoupled":
        return lambda: tf.zeros([])
    if not config.decay_norm_and_bias:
        return model.regularization_loss
    return lambda: config.weight_decay * tf.add_n([tf.nn.l2_loss(variable) for variable in model.trainable_variables])


def _slot(name, value):
    return tf.Variable(value, trainable=False, name=name)


class LossScale(tf.Module):
    """The factor that keeps float16 gradients from vanishing: halved on overflow, doubled after a while without.

    Source: Micikevicius et al., Mixed Precision Training, arXiv:1710.03740, 3.2.

    Attributes:
      variables_by_name: The scale and the count of finite steps since it changed, for the checkpoint.
    """

    def __init__(self, dynamic, start=2.0**15, steps_to_double=2000):
        """Makes a scale that starts at `start`, or stays 1 if not dynamic; call it in the scope of the strategy."""
        super().__init__()
        self._dynamic = dynamic
        self._steps_to_double = steps_to_double
        options = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self._scale = tf.Variable(start if dynamic else 1.0, name="loss_scale", **options)
        self._finite_steps = tf.Variable(0, dtype=tf.int64, name="loss_scale_finite_steps", **options)
        self.variables_by_name = {"loss_scale": self._scale, "loss_scale_finite_steps": self._finite_steps}

    def value(self):
        """Returns the scale, a float32 scalar."""
        return tf.identity(self._scale)

    def scale(self, loss):
        """Returns the loss times the scale."""
        return loss * self._scale if self._dynamic else loss

    def divide(self, gradients):
        """Returns the gradients of a scaled loss, divided by the scale."""
        return [gradient / self._scale for gradient in gradients] if self._dynamic else gradients

    def unscale(self, gradients):
        """Divides summed gradients by the scale and adapts it; called in a replica.

        Returns:
          The gradients, and a boolean scalar: whether the step is to be kept (None for always).
        """
        if not self._dynamic:
            return gradients, None
        gradients = self.divide(gradients)
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
        steps = tf.where(finite, self._finite_steps + 1, 0)
        double = steps >= self._steps_to_double
        self._scale.assign(
            tf.where(finite, tf.where(double, self._scale * 2.0, self._scale), tf.maximum(self._scale * 0.5, 1.0))
        )
        self._finite_steps.assign(tf.where(double, tf.zeros_like(steps), steps))
        return gradients, finite
