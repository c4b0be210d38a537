"""The fake score of DMD and SiD: a denoiser of what the student makes at the moment."""

import torch

from samplers import draw_levels
from training.stage import apply_gradients, moving_target_adam


class FakeScore:
    """A denoiser that starts as the teacher and follows the student's outputs; it has no average.

    updates: steps on each batch, with fresh levels and noise (the ratio of updates that DMD2 found
    to matter, arXiv:2405.14867, sec. 4.2). mean, std: of ln sigma, where the distillation asks.
    """

    def __init__(self, model, run, noise_like, lr, updates, mean, std):
        # In evaluation mode: dropout would blur the score that the student follows.
        self.model, self.run, self.noise_like = model.eval(), run, noise_like
        self.optimizer = moving_target_adam(model.parameters(), lr)
        self.updates, self.mean, self.std = updates, mean, std

    def kept(self):
        return {"fake_score": self.model, "fake_optimizer": self.optimizer}

    def learn(self, fake):
        """Denoising steps on images `[B, 3, H, W]`. Returns scalar tensors by name."""
        losses, skipped = [], 0.0
        self.model.requires_grad_(True)
        for _ in range(self.updates):
            sigma = draw_levels(len(fake), self.mean, self.std, fake.device)
            loss = self.run(self.model.compute_loss, fake, self.noise_like(fake), sigma)
            loss.backward()
            _, applied = apply_gradients(self.optimizer, self.model)
            skipped += float(not applied)
            losses.append(loss.detach())
        # SiD differentiates through it with respect to the image; its weights want none of that.
        self.model.requires_grad_(False)
        return {"fake_score_loss": torch.stack(losses).mean(), "fake_score_skipped": skipped}
