"""The hand-in archive: what goes in, and whether it passes what the graders do with it."""
