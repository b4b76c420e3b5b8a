"""A pass and a backend for Parka, as a partner would bring them."""
