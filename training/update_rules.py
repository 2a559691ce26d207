"""How each optimizer updates a variable: one function for each, and a table of them.

The arithmetic is done by the TensorFlow kernels that tf.compat.v1.train's optimizers used. Slots have the same names
and initial values, so that a checkpoint's `<variable>/RMSProp_1` means the same as in Slim's. Keras' optimizers keep
their state under other names, and fail if a MirroredStrategy applies them in its replicas.
"""

from typing import NamedTuple

import tensorflow as tf


class Rule(NamedTuple):
    """An optimizer with its numbers.

    Attributes:
      slots: What it keeps for each variable: the ending of the slot's name -> the slot's initial value.
      update: update(variable, slots, gradient, now) updates a variable and its slots in place; now is a Now.
      betas: A dict of name -> number; the rule needs their powers, with the count of steps as exponent.
      decays: Whether the rule applies the weight decay itself.
    """

    slots: dict
    update: object
    betas: dict = {}
    decays: bool = False


class Now(NamedTuple):
    """The values for one variable in one step: the rate, the powers of the rule's betas, and the weight decay."""

    rate: tf.Tensor
    powers: tuple
    decay: float


def _sgd(flags):
    """variable -= rate * gradient."""

    def update(variable, slots, gradient, now):
        tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=now.rate, delta=gradient)

    return Rule({}, update)


def _momentum(flags):
    """velocity = momentum * velocity + gradient; variable -= rate * velocity (Nesterov looks one step ahead)."""

    def update(variable, slots, gradient, now):
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=slots[0].handle,
            lr=now.rate,
            grad=gradient,
            momentum=tf.constant(flags.momentum),
            use_nesterov=flags.nesterov,
        )

    return Rule({"Momentum": 0.0}, update)


def _rmsprop(flags):
    """Tieleman and Hinton, lecture 6.5 of Neural Networks for Machine Learning, 2012, with momentum."""

    def update(variable, slots, gradient, now):
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=slots[0].handle,
            mom=slots[1].handle,
            lr=now.rate,
            rho=flags.rmsprop_decay,
            momentum=flags.rmsprop_momentum,
            epsilon=flags.opt_epsilon,
            grad=gradient,
        )

    return Rule({"RMSProp": 1.0, "RMSProp_1": 0.0}, update)


def _adam(flags):
    """Kingma and Ba, arXiv:1412.6980; with decoupled decay Loshchilov and Hutter's AdamW, arXiv:1711.05101."""

    def update(variable, slots, gradient, now):
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=slots[0].handle,
            v=slots[1].handle,
            beta1_power=now.powers[0],
            beta2_power=now.powers[1],
            lr=now.rate,
            beta1=flags.adam_beta1,
            beta2=flags.adam_beta2,
            epsilon=flags.opt_epsilon,
            grad=gradient,
        )

    betas = {"beta1_power": flags.adam_beta1, "beta2_power": flags.adam_beta2}
    return Rule({"Adam": 0.0, "Adam_1": 0.0}, update, betas)


def _adagrad(flags):
    """Duchi et al., Journal of Machine Learning Research 12, 2011."""

    def update(variable, slots, gradient, now):
        tf.raw_ops.ResourceApplyAdagrad(var=variable.handle, accum=slots[0].handle, lr=now.rate, grad=gradient)

    return Rule({"Adagrad": flags.adagrad_initial_accumulator_value}, update)


def _adadelta(flags):
    """Zeiler, arXiv:1212.5701."""

    def update(variable, slots, gradient, now):
        tf.raw_ops.ResourceApplyAdadelta(
            var=variable.handle,
            accum=slots[0].handle,
            accum_update=slots[1].handle,
            lr=now.rate,
            rho=flags.adadelta_rho,
            epsilon=flags.opt_epsilon,
            grad=gradient,
        )

    return Rule({"Adadelta": 0.0, "Adadelta_1": 0.0}, update)


def _ftrl(flags):
    """McMahan et al., Ad Click Prediction, KDD 2013."""

    def update(variable, slots, gradient, now):
        tf.raw_ops.ResourceApplyFtrl(
            var=variable.handle,
            accum=slots[0].handle,
            linear=slots[1].handle,
            grad=gradient,
            lr=now.rate,
            l1=flags.ftrl_l1,
            l2=flags.ftrl_l2,
            lr_power=flags.ftrl_learning_rate_power,
        )

    return Rule({"Ftrl": flags.ftrl_initial_accumulator_value, "Ftrl_1": 0.0}, update)


def _lars(flags):
    """You et al., arXiv:1708.03888: each layer's rate is proportional to the norm of its weights over its gradient's.

    velocity = momentum * velocity + rate * trust * (gradient + decay * variable); variable -= velocity, where trust is
    lars_eta * |variable| / (|gradient| + decay * |variable|) for weights, and 1 for norms and biases.
    """

    def update(variable, slots, gradient, now):
        trust = 1.0
        if variable.shape.rank > 1:
            weight_norm, gradient_norm = tf.norm(variable), tf.norm(gradient)
            # If either norm is zero, the plain rate applies.
            trust = tf.where(
                (weight_norm > 0) & (gradient_norm > 0),
                tf.math.divide_no_nan(flags.lars_eta * weight_norm, gradient_norm + now.decay * weight_norm),
                1.0,
            )
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=slots[0].handle,
            lr=tf.constant(1.0),
            grad=now.rate * trust * (gradient + now.decay * variable),
            momentum=tf.constant(flags.momentum),
            use_nesterov=flags.nesterov,
        )

    return Rule({"Momentum": 0.0}, update, decays=True)


# By --optimizer; each function makes a Rule from a resolved TrainConfig.
RULES = {
    "sgd": _sgd,
    "momentum": _momentum,
    "rmsprop": _rmsprop,
    "adam": _adam,
    "adamw": _adam,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
    "ftrl": _ftrl,
    "lars": _lars,
}
