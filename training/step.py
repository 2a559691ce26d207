"""The training step that the trainer runs and the benchmarks time."""

import tensorflow as tf

from training.optimizers import LossScale

# Size of the gradients that are summed over the replicas at once: large enough to keep the network between them busy,
# and small enough that the first are sent while the others are computed.
_PACK_BYTES = 32 * 2**20


def sum_over_replicas(gradients):
    """Sums gradients over the replicas in packs; TensorFlow would send each by itself. Called in a replica.

    Args:
      gradients: A list of float32 tensors of known shapes.

    Returns:
      A list of the sums.
    """
    packs, room = [], 0
    for gradient in gradients:
        size = 4 * gradient.shape.num_elements()
        if size > room:
            packs.append([])
            room = _PACK_BYTES
        packs[-1].append(gradient)
        room -= size
    flat = [tf.concat([tf.reshape(gradient, [-1]) for gradient in pack], axis=0) for pack in packs]
    sums = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, flat)
    return [
        tf.reshape(part, gradient.shape)
        for pack, total in zip(packs, sums, strict=True)
        for gradient, part in zip(
            pack, tf.split(total, [gradient.shape.num_elements() for gradient in pack]), strict=True
        )
    ]


class TrainStep(tf.Module):
    """Forward, backward and update of a model under a tf.distribute strategy.

    Attributes:
      global_step: int64 variable, the number of steps done.
      loss_scale: The optimizers.LossScale; it scales only in float16.
    """

    def __init__(
        self,
        model,
        optimizer,
        learning_rate_fn,
        strategy=None,
        label_smoothing=0.0,
        *,
        variables=None,
        training=True,
        decay_loss=None,
        clip_gradient_norm=None,
        accumulation_steps=1,
        averages=None,
    ):
        """Makes the step.

        Args:
          model: A SlimModel made in the scope of `strategy`.
          optimizer: An optimizers.Optimizer over `variables`; None if `step` is not called.
          learning_rate_fn: From the step (int64) to the rate; None if `step` is not called.
          strategy: A tf.distribute strategy; None for the current one.
          label_smoothing: The part of the label's probability that is spread over all classes, in [0, 1).
          variables: The variables to train; None for all of the model's trainable ones.
          training: The norms' `training` argument; see `SlimModel.__call__`.
          decay_loss: Computes the scalar that weight decay adds to the loss; None for the model's regularization_loss.
          clip_gradient_norm: Global norm to which the gradients are clipped; None for no clipping.
          accumulation_steps: Parts in which a replica's batch passes the network, one after the other; must divide it.
            The gradient is that of the mean over the batch; norms see one part at a time.
          averages: An averages.MovingAverages to update at each step, or None.
        """
        super().__init__()
        self._model = model
        self._optimizer = optimizer
        self._learning_rate_fn = learning_rate_fn
        self._strategy = strategy or tf.distribute.get_strategy()
        self._label_smoothing = label_smoothing
        self._variables = model.trainable_variables if variables is None else variables
        self._training = training
        self._decay_loss = decay_loss or model.regularization_loss
        self._clip_gradient_norm = clip_gradient_norm
        self._accumulation_steps = accumulation_steps
        self._averages = averages
        with self._strategy.scope():
            self.global_step = tf.Variable(
                0,
                dtype=tf.int64,
                trainable=False,
                name="global_step",
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            self.loss_scale = LossScale(dynamic=model.compute_dtype == tf.float16)

    @property
    def variables_by_name(self):
        """The variables of a checkpoint besides the model's: step, slots, loss scale and moving averages, by name."""
        slots = self._optimizer.slots_by_name if self._optimizer else {}
        averages = self._averages.variables_by_name if self._averages else {}
        return {"global_step": self.global_step} | slots | self.loss_scale.variables_by_name | averages

    @tf.function(autograph=False)
    def step(self, images, labels):
        """Trains on one global batch.

        Args:
          images: Preprocessed images, [batch, height, width, 3], or the strategy's per-replica values.
          labels: int32 [batch], or per-replica values; or float32 [batch, num_classes], each class's part of an image.

        Returns:
          A dict of float32 scalars: loss (cross-entropy plus L2), cross_entropy, top_1 (share of the batch, before the
          update), learning_rate and, in float16, loss_scale and dropped (1 for a step whose gradients overflowed, which
          changes no weight).
        """
        return self._over_replicas(self._replica_step, images, labels)

    @tf.function(autograph=False)
    def forward_backward(self, images, labels):
        """Computes what a step computes, but updates no weight; batch norm updates its averages.

        Returns:
          The loss, a float32 scalar, and the gradients in the order of the model's trainable variables.
        """
        metrics, gradients = self._gradients(images, labels)
        return metrics["loss"], self.loss_scale.divide(gradients)

    @tf.function(autograph=False)
    def forward(self, images):
        """Computes logits in inference mode, float32 [batch, num_classes]."""
        return self._model(images, training=False)[0]

    def _over_replicas(self, function, *arguments):
        names = []

        def stacked(*arguments):
            metrics = function(*arguments)
            names[:] = metrics
            # One tensor to send, instead of one for each metric.
            return tf.stack(list(metrics.values()))

        per_replica = self._strategy.run(stacked, args=arguments)
        means = self._strategy.reduce(tf.distribute.ReduceOp.MEAN, per_replica, axis=None)
        return dict(zip(names, tf.unstack(means), strict=True))

    def _replica_step(self, images, labels):
        metrics, gradients = self._accumulated_gradients(images, labels)
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            gradients = sum_over_replicas(gradients)
        scale = self.loss_scale.value()  # Before it adapts.
        gradients, keep = self.loss_scale.unscale(gradients)
        if self._clip_gradient_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_gradient_norm)
        learning_rate = self._learning_rate_fn(self.global_step)
        self._optimizer.apply(gradients, learning_rate, keep)
        if self._averages:
            self._averages.update(self.global_step)
        self.global_step.assign_add(1)
        scaling = {} if keep is None else {"loss_scale": scale, "dropped": 1.0 - tf.cast(keep, tf.float32)}
        return metrics | {"learning_rate": learning_rate} | scaling

    def _accumulated_gradients(self, images, labels):
        """As `_gradients`, but in `accumulation_steps` parts."""
        parts = self._accumulation_steps
        if parts == 1:
            return self._gradients(images, labels)

        def part(values, index):
            size = tf.shape(values)[0] // parts
            taken = values[index * size : (index + 1) * size]
            # The network is traced with the static size, if there is one.
            static = values.shape[0] and values.shape[0] // parts
            taken.set_shape([static, *values.shape[1:]])
            return taken

        def add(index, metrics, gradients):
            more_metrics, more = self._gradients(part(images, index), part(labels, index))
            metrics = {name: metrics[name] + value / parts for name, value in more_metrics.items()}
            return index + 1, metrics, [sum_ + value / parts for sum_, value in zip(gradients, more, strict=True)]

        nothing = {name: tf.zeros([]) for name in ("loss", "cross_entropy", "top_1")}
        start = (tf.constant(0), nothing, [tf.zeros(variable.shape) for variable in self._variables])
        # A loop, because copies of the network could run side by side and hold all activations at once.
        _, metrics, gradients = tf.while_loop(
            lambda index, *unused: index < parts, add, start, parallel_iterations=1, maximum_iterations=parts
        )
        return metrics, gradients

    def _gradients(self, images, labels):
        """Returns metrics of this replica's part of the batch, and scaled gradients that sum to the whole batch's."""
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        with tf.GradientTape() as tape:
            logits, _ = self._model(images, training=self._training)
            cross_entropy = tf.reduce_mean(self._cross_entropy(labels, logits))
            scaled = self.loss_scale.scale(cross_entropy / replicas)
        decay_loss, gradients = self._with_decay(tape.gradient(scaled, self._variables), replicas)
        loss = cross_entropy + decay_loss
        hits = tf.argmax(logits, axis=-1, output_type=tf.int32) == self._classes(labels)
        top_1 = tf.reduce_mean(tf.cast(hits, tf.float32))
        return {"loss": loss, "cross_entropy": cross_entropy, "top_1": top_1}, gradients

    def _with_decay(self, gradients, replicas):
        """Returns the loss of the weight decay, and the gradients with the decay's added.

        The decay's are computed last. Otherwise an executor could compute them early, and they would take the memory of
        all weights while the activations take the most.
        """
        with tf.control_dependencies([gradient for gradient in gradients if gradient is not None]):
            with tf.GradientTape() as tape:
                loss = self._decay_loss()
                scaled = self.loss_scale.scale(loss / replicas)
            decays = tape.gradient(scaled, self._variables)
            both = [[part for part in parts if part is not None] for parts in zip(gradients, decays, strict=True)]
            return loss, [tf.add_n(parts) if parts else None for parts in both]

    def _classes(self, labels):
        """The class of each image; for a mixed one, the class of the greater part."""
        return labels if labels.shape.rank == 1 else tf.argmax(labels, axis=-1, output_type=tf.int32)

    def _cross_entropy(self, labels, logits):
        if labels.shape.rank == 1 and not self._label_smoothing:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        classes = logits.shape[-1]
        targets = tf.one_hot(labels, classes) if labels.shape.rank == 1 else labels
        targets = targets * (1.0 - self._label_smoothing) + self._label_smoothing / classes
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits)
