"""Applies a checkpoint to images: classes, pictures of where a class was seen, features."""
