"""Few-step image generation: methods, the engine they share, and what serves both.

In a notebook, from the project's folder:

    import fewstep
    fewstep.load("checkpoints/best_model.pt").sample(16, nfe=1)
"""


def load(path, device=None):
    """A model ready to sample, see `fewstep.runs.loading.load`."""
    from fewstep.runs import loading  # torch, where it is needed: this module is imported often

    return loading.load(path, device)


def load_discriminator(path, device=None):
    """A published discriminator, see `fewstep.runs.loading.load_discriminator`."""
    from fewstep.runs import loading

    return loading.load_discriminator(path, device)
