"""Residual networks as TF-Slim functions, and as objects that own their variables."""
