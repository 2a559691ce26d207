"""Times steps of networks: after a burn-in, with every time kept and the machine recorded."""
