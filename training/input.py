"""What a training run is fed: its data set, its preprocessing, and the batches that they give."""

import dataclasses

from command_line import UserError
from data import catalog, preprocessing, records, service, statistics, synthetic
from data.mixing import Mixing
from data.preprocessing.augmentation import Augmentation


def open_data(config, network):
    """Opens the data set that the flags name, or draws it.

    Args:
      config: A TrainConfig, resolved or not.
      network: A row of nets_factory.NETWORKS.

    Raises:
      UserError: As `catalog.open_dataset` and `synthetic.synthetic_dataset`.
    """
    if config.dataset_name != synthetic.NAME:
        return catalog.open_dataset(config.dataset_name, config.dataset_dir)
    if config.dataset_dir is not None:
        raise UserError("--dataset_name=synthetic has no folder: leave --dataset_dir out")
    size = config.train_image_size or network.default_image_size
    return synthetic.synthetic_dataset(config.synthetic_num_images, config.synthetic_num_classes, size, config.seed)


class Input:
    """The batches of a run.

    Attributes:
      settings: What model.json records of the preprocessing.
    """

    def __init__(self, config, dataset, recorded=None, worker=0, num_workers=1):
        """Looks everything up, so that wrong names come out before anything is made.

        Args:
          config: A resolved TrainConfig.
          dataset: A catalog.Dataset.
          recorded: The settings of the run that this one goes on with, or begins with the weights of; None where the
            flags alone decide.
          worker, num_workers: Whose part of the batches to make, as in `records.training_batches`.

        Raises:
          UserError: If a name, a split or an address is wrong.
        """
        self._config = config
        self._dataset = dataset
        self._part = {"worker": worker, "num_workers": num_workers}
        if not dataset.synthetic:
            dataset.files(config.eval_split_name)
        if config.data_service_address:
            service.check_address(config.data_service_address)
        self._family = preprocessing.from_settings(recorded) if recorded else self._new_family()
        self.settings = self._family.settings(config.train_image_size)

    @property
    def channels(self):
        """Of the network's input."""
        return self._family.channels

    def training_batches(self, first_step):
        """As `records.training_batches`, from a step on."""
        config = self._config
        augmentation = Augmentation(
            config.rand_augment_layers, config.rand_augment_magnitude, random_erasing=config.random_erasing
        )
        size = config.train_image_size
        return records.training_batches(
            self._dataset,
            config.dataset_split_name,
            preprocessing.Preprocess(self._family, size, size, is_training=True, augmentation=augmentation),
            config.batch_size,
            config.seed,
            first_step=first_step,
            labels_offset=config.labels_offset,
            num_private_threads=config.dataset_num_private_threads,
            mixing=Mixing(config.mixup_alpha, config.cutmix_alpha),
            service_address=config.data_service_address,
            **self._part,
        )

    def evaluation_batches(self, batch_size):
        """As `records.evaluation_batches`."""
        config = self._config
        size = config.train_image_size
        return records.evaluation_batches(
            self._dataset,
            config.eval_split_name,
            preprocessing.Preprocess(self._family, size, size),
            batch_size,
            config.labels_offset,
            config.dataset_num_private_threads,
            **self._part,
        )

    def _new_family(self):
        """The family that the flags name; "cifar_mean" with the statistics of the training split."""
        config = self._config
        family = preprocessing.find_family(config.preprocessing_name)
        if config.use_grayscale:
            family = dataclasses.replace(family, channels=1)
        if family.name == "cifar_mean" and not self._dataset.synthetic:
            means, deviations = statistics.channel_statistics(self._dataset, config.dataset_split_name, family.channels)
            family = dataclasses.replace(family, means=means, standard_deviations=deviations)
        return family
