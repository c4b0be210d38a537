"""One way to a few-step generator a file; their losses as pure functions beside them."""
