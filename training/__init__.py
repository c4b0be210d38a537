"""The training side: settings, stages, losses, the one loop. Sampling never imports it."""
