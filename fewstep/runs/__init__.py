"""A run: its settings and command line, what is built from them, and its folder."""
