"""Labelled images: the known data sets, their records, and the network's input.

`catalog` says what a data set holds. `records` reads and writes its TFRecords, from the `sources` that hold or stream
them, or through a tf.data `service`. `preprocessing` turns an image into a network's input, `mixing` combines two
images, `synthetic` draws images instead. `statistics` measures a split, `conversion` turns images into records.
`data/digits` is a small real data set that needs no download, made by `make_digits`.
"""
