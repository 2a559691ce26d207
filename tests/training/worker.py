"""The trainer with the tiny networks, as a worker of test_many_workers.py.

    python worker.py FLAGS

With DIE_AT in the environment the process sends itself the signal DIE_BY when it is about to do that step and the file
DIED is not there.
"""

import os
import pathlib
import signal
import sys

import command_line
from training.config import TrainConfig


def main(config):
    import training_toys

    import train_image_classifier
    from nets import nets_factory

    training_toys.add_tiny_networks(nets_factory.NETWORKS)
    if "DIE_AT" in os.environ and not config.max_restarts:
        die_once(int(os.environ["DIE_AT"]), pathlib.Path(os.environ["DIED"]))
    return train_image_classifier.main(config)


def die_once(at_step, died):
    """Lets this process end itself before a step, the first time."""
    from training.meter import Meter

    add = Meter.add

    def add_or_die(meter, metrics):
        add_or_die.steps += 1
        if add_or_die.steps == at_step and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.Signals[os.environ.get("DIE_BY", "SIGKILL")])
        return add(meter, metrics)

    add_or_die.steps = 0
    Meter.add = add_or_die


if __name__ == "__main__":
    command_line.run(main, TrainConfig, sys.argv[1:])
