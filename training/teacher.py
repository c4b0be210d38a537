"""Phase 1: a denoiser from scratch."""

import torch

from training.schedules import ema_decay, warmup_cosine
from training.stage import Stage, apply_gradients, set_lr


class TeacherStage(Stage):
    """Phase 1: a denoiser from scratch (EDM)."""

    name = "teacher"

    def __init__(self, model, total, lr, warmup, ema_share, autocast):
        super().__init__(model, lambda step: ema_decay(step, ema_share), autocast)
        self.total, self.lr, self.warmup = total, lr, warmup
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.99))

    def _kept(self):
        return {"model": self.model, "average": self.average, "optimizer": self.optimizer}

    def step(self, x0, step):
        """One update on images `[B, 3, H, W]` in [-1, 1]. Returns scalar tensors by name."""
        set_lr(self.optimizer, self.lr * warmup_cosine(step, self.total, self.warmup))
        loss = self._run(self.model.compute_loss, x0, self.model.scheduler.noise_like(x0))
        loss.backward()
        norm, applied = apply_gradients(self.optimizer, self.model)
        if applied:
            self.average.update_parameters(self.model)
        return {"loss": loss.detach(), "grad_norm": norm, "skipped": float(not applied)}
