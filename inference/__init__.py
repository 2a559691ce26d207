"""A checkpoint at work on images: classes, pictures of what a class was seen in, features."""
