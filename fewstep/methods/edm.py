"""Phase 1: a denoiser from scratch."""

import torch

from fewstep.engine.learner import Adam, Learner
from fewstep.engine.schedules import ema_decay, warmup_cosine
from fewstep.methods.stage import Stage


class TeacherStage(Stage):
    """Phase 1: a denoiser from scratch (EDM)."""

    name = "teacher"

    def __init__(self, model, total, lr, warmup, ema_share, autocast, processes, kernels):
        super().__init__(model, lambda step: ema_decay(step, ema_share), kernels)
        self.total, self.lr, self.warmup = total, lr, warmup
        optimizer = Adam(model.parameters(), lr, (0.9, 0.99), kernels)
        self.learner = Learner(model, "compute_loss", optimizer, autocast, processes, model.device)

    def _kept(self):
        return {
            "model": self.model,
            "average": self.average,
            "optimizer": self.learner.optimizer,
        }

    def step(self, parts, step):
        """One update on a list of `Part`. Returns scalar tensors by name."""
        noise_like = self.model.scheduler.noise_like

        def backward(part):
            part.begin("teacher")
            loss = self.learner(part.images, noise_like(part.images))
            (loss / len(parts)).backward()
            return loss.detach()

        self.learner.optimizer.set_lr(self.lr * warmup_cosine(step, self.total, self.warmup))
        loss = torch.stack(self.learner.gather(parts, backward)).mean()
        norm, dropped = self.learner.apply()
        self.follow()
        return {"loss": loss, "grad_norm": norm, "skipped": dropped}
