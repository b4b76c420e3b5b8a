"""The whole platform on one machine, started and kept alive by one command."""
