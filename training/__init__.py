"""Training and evaluation of the networks: schedules, optimizers, the step, the loop, exact evaluation."""
