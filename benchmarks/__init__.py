"""Measures how long a step of a network takes: without the burn-in, with every time kept and the machine recorded."""
