"""Few-step image generation: methods, the engine they share, and what serves both."""
