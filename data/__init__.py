"""Labelled images: which data sets there are, their records, and what a network is fed.

`catalog` says what a data set holds, `records` reads and writes its TFRecords, `preprocessing` turns a decoded image
into a network's input, `conversion` makes records of images. `data/digits` is a small real data set that needs no
download; `make_digits` made it.
"""
