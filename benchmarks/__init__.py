"""How long a step of a network takes: warm-up apart, every time kept, the machine recorded."""
