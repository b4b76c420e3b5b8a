"""What to try, in which order, and when to stop: the plan, the pure search machine, and its driver."""
