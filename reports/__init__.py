"""Tables, figures and pages on networks, runs and benchmarks."""
