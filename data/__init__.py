"""Labelled images: which data sets there are, their records, and what a network is fed.

`catalog` says what a data set holds; `records` reads and writes its TFRecords, from the `sources` that hold or stream
them, or by a tf.data `service`; `preprocessing` turns an image into a network's input, `mixing` two into one;
`synthetic` draws images instead; `statistics` measures a split; `conversion` makes records of images. `data/digits` is
a small real data set that needs no download; `make_digits` made it.
"""
