"""Measuring and judging: statistics, comparisons, verdicts and the harness that feeds them."""
