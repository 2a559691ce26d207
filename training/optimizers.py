"""The update of the weights, and the loss scale that float16 needs."""

import tensorflow as tf


class Momentum(tf.Module):
    """Stochastic gradient descent with momentum, as tf.compat.v1.train.MomentumOptimizer.

    velocity = momentum * velocity + gradient; variable -= learning_rate * velocity. Velocities are variables named
    <variable>/Momentum, the name Slim's checkpoints have for them.

    Attributes:
      slots_by_name: A dict of slot name -> variable.
    """

    def __init__(self, variables_by_name, momentum=0.9):
        """Makes a velocity of zeros for each variable; call it in the scope of the strategy."""
        super().__init__()
        self._momentum = momentum
        self._variables = list(variables_by_name.values())
        self.slots_by_name = {
            f"{name}/Momentum": tf.Variable(tf.zeros(variable.shape), trainable=False, name=f"{name}/Momentum")
            for name, variable in variables_by_name.items()
        }

    def apply(self, gradients, learning_rate, keep=None):
        """Updates the variables; called in a replica.

        Args:
          gradients: Float32 gradients, already summed over the replicas, in the order of the variables.
          learning_rate: Float32 scalar.
          keep: Boolean scalar; False leaves variables and velocities exactly as they are. None is always True.
        """
        momentum = tf.constant(self._momentum)
        if keep is not None:
            # A branch could not hold the merge over replicas, so a dropped step is an update by nothing:
            # velocity = 1 * velocity + 0; variable -= 0 * velocity.
            gradients = [tf.where(keep, gradient, tf.zeros_like(gradient)) for gradient in gradients]
            momentum = tf.where(keep, momentum, 1.0)
            learning_rate = tf.where(keep, learning_rate, 0.0)
        context = tf.distribute.get_replica_context()
        context.merge_call(self._update_all, args=(gradients, learning_rate, momentum))

    def _update_all(self, strategy, gradients, learning_rate, momentum):
        def update(variable, slot, gradient, learning_rate, momentum):
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.handle, accum=slot.handle, lr=learning_rate, grad=gradient, momentum=momentum
            )

        for variable, slot, gradient in zip(self._variables, self.slots_by_name.values(), gradients, strict=True):
            strategy.extended.update(variable, update, args=(slot, gradient, learning_rate, momentum), group=False)


class LossScale(tf.Module):
    """The factor that keeps float16 gradients from vanishing: halved when they overflow, doubled after a quiet while.

    Source: Micikevicius et al., Mixed Precision Training, arXiv:1710.03740, 3.2.

    Attributes:
      variables_by_name: The scale and the count of finite steps since it changed, for the checkpoint.
    """

    def __init__(self, dynamic, start=2.0**15, steps_to_double=2000):
        """Makes a scale that starts at `start`, or stays 1 when not dynamic; call it in the scope of the strategy."""
        super().__init__()
        self._dynamic = dynamic
        self._steps_to_double = steps_to_double
        options = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self._scale = tf.Variable(start if dynamic else 1.0, name="loss_scale", **options)
        self._finite_steps = tf.Variable(0, dtype=tf.int64, name="loss_scale_finite_steps", **options)
        self.variables_by_name = {"loss_scale": self._scale, "loss_scale_finite_steps": self._finite_steps}

    def scale(self, loss):
        """Returns the loss times the scale."""
        return loss * self._scale if self._dynamic else loss

    def divide(self, gradients):
        """Returns gradients of a scaled loss divided by the scale."""
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
