"""Planning a search: what will be tried, how long it takes, and what stands in the way."""

from optimizer.search.candidates import installed_backends, plan, reference_of
from optimizer.search.estimate import check_budget, estimate
from optimizer.search.plan import Candidate, Estimate, Plan

__all__ = ["Candidate", "Estimate", "Plan", "check_budget", "estimate", "installed_backends", "plan", "reference_of"]
