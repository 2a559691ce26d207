"""Tables, figures and pages about networks, runs, evaluations and benchmarks."""
