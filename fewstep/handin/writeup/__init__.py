"""The two-page write-up of a run, drawn from its own records."""
