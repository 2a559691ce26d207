"""Training and evaluation of the networks: schedules, the optimizer, the step, the loop, the exact evaluation."""
