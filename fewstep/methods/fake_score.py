"""The fake score of DMD and SiD: a denoiser of what the student makes at the moment."""

import torch

from fewstep.engine.learner import Learner, moving_target_adam
from src.samplers import draw_levels


class FakeScore:
    """A denoiser that starts as the teacher and follows the student's outputs; it has no average.

    updates: steps on each batch, with fresh levels and noise (the ratio of updates that DMD2 found
    to matter, arXiv:2405.14867, sec. 4.2). mean, std: of ln sigma, where the distillation asks.
    The rest: `fewstep.engine.learner.Learner`.
    """

    def __init__(self, model, noise_like, lr, updates, mean, std, autocast, processes, kernels):
        # In evaluation mode: dropout would blur the score that the student follows.
        self.model, self.noise_like = model.eval().requires_grad_(True), noise_like
        self.optimizer = moving_target_adam(model.parameters(), lr, kernels)
        self.learner = Learner(
            model, "compute_loss", self.optimizer, autocast, processes, model.device
        )
        self.updates, self.mean, self.std = updates, mean, std

    def kept(self):
        return {"fake_score": self.model, "fake_optimizer": self.optimizer}

    def learn(self, shown):
        """Denoising steps on the images of a list of `Shown`. Returns scalar tensors by name."""
        losses, skipped = [], []
        self.model.requires_grad_(True)
        for update in range(self.updates):

            def backward(show, turn=f"fake score {update}"):
                fake = show.fake
                show.part.begin(turn)
                sigma = draw_levels(len(fake), self.mean, self.std, fake.device)
                loss = self.learner(fake, self.noise_like(fake), sigma)
                (loss / len(shown)).backward()
                losses.append(loss.detach())

            self.learner.gather(shown, backward)
            skipped.append(self.learner.apply()[1])
        # SiD differentiates through it with respect to the image; its weights want none of that.
        self.model.requires_grad_(False)
        return {
            "fake_score_loss": torch.stack(losses).mean(),
            "fake_score_skipped": torch.stack(skipped).sum(),
        }
