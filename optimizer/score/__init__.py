"""Judgement and money: verdicts on targets, cost, Pareto picks, comparisons, and the words for numbers."""
