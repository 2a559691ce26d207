"""Weights of other libraries, read into checkpoints of ours and written from them; one module per format."""
