"""A student's weights as 8-bit numbers in a few files, small enough for a repository."""
