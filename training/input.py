"""The input of a training run: its data set, its preprocessing, and the resulting batches."""

import dataclasses
import sys

import numpy as np
import tensorflow as tf

from command_line import UserError
from data import catalog, preprocessing, records, service, sharding, statistics, synthetic
from data.mixing import Mixing
from data.preprocessing.augmentation import Augmentation
from training.workers import Workers

_ALONE = Workers()
# Of the records of the worker that has most: one with fewer sees its own more often.
_LEAST_SHARE = 0.9


def open_data(config, network):
    """Opens the data set that the flags name, or draws a synthetic one.

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
      settings: What model.json records about the preprocessing.
    """

    def __init__(self, config, dataset, recorded=None, workers=_ALONE):
        """Looks everything up, so that wrong names are reported before anything is made.

        Args:
          config: A resolved TrainConfig.
          dataset: A catalog.Dataset.
          recorded: The preprocessing settings of the run that is resumed, or whose weights this one starts from; None
            if the flags alone decide.
          workers: The workers.Workers of the run; if files are divided, all of them have to make an Input.

        Raises:
          UserError: If a name, a split or an address is wrong, or there are too few files to divide.
          DataError: If a file that is to be divided is cut short, or their total differs from dataset.json.
        """
        self._config = config
        self._dataset = dataset
        self._workers = workers
        if not dataset.synthetic:
            dataset.files(config.eval_split_name)
        if config.data_service_address:
            service.check_address(config.data_service_address)
        self._family = preprocessing.from_settings(recorded) if recorded else self._new_family()
        self.settings = self._family.settings(config.train_image_size)
        self._parts = {}
        if config.shard_policy == "file" and workers.count > 1 and not dataset.synthetic:
            self._divide(config.dataset_split_name)
            # A split in few files is small, so every worker can read all of it in each pass.
            if len(dataset.files(config.eval_split_name)) >= workers.count:
                self._divide(config.eval_split_name)

    @property
    def channels(self):
        """Channels of the network's input."""
        return self._family.channels

    def training_batches(self, first_step):
        """As `records.training_batches` from a step on, but this worker's part of each batch."""
        config, workers, split = self._config, self._workers, self._config.dataset_split_name
        batch_size, seed, part = config.batch_size, config.seed, {"worker": workers.index, "num_workers": workers.count}
        if split in self._parts:
            batch_size, part = batch_size // workers.count, {}
            # Images and epochs have the same numbers on all workers, but should be drawn differently on each.
            seed = int(np.random.SeedSequence([seed, workers.index]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return records.training_batches(
            self._dataset_of(split),
            split,
            self._training_preprocess(),
            batch_size,
            seed,
            first_step=first_step,
            labels_offset=config.labels_offset,
            num_private_threads=config.dataset_num_private_threads,
            mixing=Mixing(config.mixup_alpha, config.cutmix_alpha),
            service_address=config.data_service_address,
            **part,
        )

    def batches_of_a_server_worker(self):
        """As `records.training_batches`, for a worker of parameter servers: traced here, but run on the worker."""
        config = self._config
        return records.training_batches(
            self._dataset,
            config.dataset_split_name,
            self._training_preprocess(),
            config.batch_size,
            # Each worker draws its own seed; otherwise all would use the same batches.
            tf.random.uniform([], maxval=tf.int64.max, dtype=tf.int64),
            labels_offset=config.labels_offset,
            # A split in memory would be sent from here.
            cached_bytes=0,
            num_private_threads=config.dataset_num_private_threads,
            mixing=Mixing(config.mixup_alpha, config.cutmix_alpha),
        )

    def _training_preprocess(self):
        config, size = self._config, self._config.train_image_size
        augmentation = Augmentation(
            config.rand_augment_layers, config.rand_augment_magnitude, random_erasing=config.random_erasing
        )
        return preprocessing.Preprocess(self._family, size, size, is_training=True, augmentation=augmentation)

    def evaluation_batches(self, batch_size):
        """As `records.evaluation_batches`, but only this worker's batches."""
        config, workers, split = self._config, self._workers, self._config.eval_split_name
        size = config.train_image_size
        part = {} if split in self._parts else {"worker": workers.index, "num_workers": workers.count}
        return records.evaluation_batches(
            self._dataset_of(split),
            split,
            preprocessing.Preprocess(self._family, size, size),
            batch_size,
            config.labels_offset,
            config.dataset_num_private_threads,
            **part,
        )

    def places(self, batch_size):
        """Where this worker's evaluation batches lie: number of its first record, and how many workers take turns."""
        if self._config.eval_split_name in self._parts:
            return self._parts[self._config.eval_split_name][1], 1
        return self._workers.index * batch_size, self._workers.count

    def explain_errors(self, split):
        """As `records.explain_errors`, for what this worker reads of a split."""
        return records.explain_errors(self._dataset_of(split), split, self._config.labels_offset)

    def _dataset_of(self, split):
        return self._parts[split][0] if split in self._parts else self._dataset

    def _divide(self, split):
        """Gives this worker its own files: stores its part of the data set, and how many records come before it."""
        workers, dataset = self._workers, self._dataset
        if len(dataset.files(split)) < workers.count:
            raise UserError(
                f"--shard_policy=file: split {split!r} of data set {dataset.name!r} has {len(dataset.files(split))} "
                f"file(s), expected at least one for each of the {workers.count} workers: convert it with more "
                "--num_shards, or leave the flag out"
            )
        part = sharding.own_part(dataset, split, workers.index, workers.count)
        own = np.zeros(workers.count, np.int64)
        own[workers.index] = part.num_records(split)
        (counts,) = workers.sum([own])
        if counts.sum() != dataset.num_records(split):
            raise records.DataError(
                f"the files of split {split!r} of data set {dataset.name!r} hold {counts.sum()} records, expected "
                f"{dataset.num_records(split)} by {dataset.directory / catalog.DESCRIPTION_FILE}: restore the missing "
                "or remove the surplus files, or mend the count"
            )
        if not counts.min():
            raise records.DataError(
                f"--shard_policy=file: the files of split {split!r} of worker {counts.argmin()} hold no record; "
                "convert it with fewer --num_shards, or leave the flag out"
            )
        if workers.is_chief and counts.min() < _LEAST_SHARE * counts.max():
            print(
                f"warning: --shard_policy=file: workers have {counts.min()} to {counts.max()} records of split "
                f"{split!r}; who has fewer sees its own more often. A number of files that the workers divide mends it",
                file=sys.stderr,
            )
        self._parts[split] = part, int(counts[: workers.index].sum())

    def _new_family(self):
        """The preprocessing family that the flags name; "cifar_mean" gets the statistics of the training split."""
        config = self._config
        family = preprocessing.find_family(config.preprocessing_name)
        if config.use_grayscale:
            family = dataclasses.replace(family, channels=1)
        if family.name == "cifar_mean" and not self._dataset.synthetic:
            means, deviations = statistics.channel_statistics(self._dataset, config.dataset_split_name, family.channels)
            family = dataclasses.replace(family, means=means, standard_deviations=deviations)
        return family
