"""From graded responses to statistics, errors, figures and the report."""
