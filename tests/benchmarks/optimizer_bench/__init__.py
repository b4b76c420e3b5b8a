"""``make bench-optimizer``: Parka beside other automatic tools, on the same models, under the same bar, timed side by side."""
