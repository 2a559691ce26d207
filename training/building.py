"""Makes the parts of a run from its flags: network, optimizer, step."""

from nets import nets_factory
from training import averages, devices, fine_tuning, optimizers
from training.step import TrainStep


def make_model(config, num_classes, channels, settings):
    """Makes the network; call it in the scope of the strategy.

    Args:
      config: A resolved TrainConfig.
      num_classes: Classes of the data set.
      channels: Channels of the images.
      settings: Settings of `create_model` from a checkpoint, for what no flag decides; {} for none.
    """
    ours = {
        "model_name": config.model_name,
        "num_classes": num_classes,
        "weight_decay": config.weight_decay,
        "batch_norm_decay": config.batch_norm_decay,
        "zero_gamma": config.zero_gamma,
        "input_channels": channels,
        "compute_dtype": devices.resolve_precision(config.precision),
        "seed": config.seed,
    }
    layout = nets_factory.read_layout(config.model_name, config.network_arguments or ())
    return nets_factory.create_model(**(settings | ours | layout), sync_batch_norm=config.sync_batch_norm)


def make_step(config, model, schedule, strategy):
    """Makes the optimizer, the moving averages and the step.

    Args:
      config: A resolved TrainConfig.
      model: A SlimModel made in the scope of `strategy`.
      schedule: A function from the step to the learning rate.
      strategy: A tf.distribute strategy.

    Returns:
      A TrainStep, and its averages.MovingAverages or None.

    Raises:
      UserError: If the scopes to train hold no variable.
    """
    trainable = fine_tuning.trainable_variables(config, model)
    with strategy.scope():
        optimizer = optimizers.make_optimizer(config, trainable)
        shadows = None
        if config.moving_average_decay is not None:
            shadows = averages.MovingAverages(model.variables_by_name, config.moving_average_decay)
    step = TrainStep(
        model,
        optimizer,
        schedule,
        strategy,
        config.label_smoothing,
        variables=list(trainable.values()),
        training=fine_tuning.mode_of_norms(config, model),
        decay_loss=optimizers.decay_loss(config, model),
        clip_gradient_norm=config.clip_gradient_norm,
        accumulation_steps=config.gradient_accumulation_steps,
        averages=shadows,
    )
    return step, shadows
