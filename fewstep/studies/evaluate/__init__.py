"""From checkpoints to scores, tables, pictures and one report."""
