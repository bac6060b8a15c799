"""From a model and a benchmark to graded responses."""
