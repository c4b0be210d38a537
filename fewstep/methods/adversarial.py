"""Phase 2: the few-step student, distilled from the teacher against a discriminator."""

from functools import partial
from typing import NamedTuple

import torch

from fewstep.engine.learner import Learner, moving_target_adam
from fewstep.engine.microbatch import Part, mean_metrics
from fewstep.engine.schedules import late_decay, ramp, warmed_decay, warmup_cosine
from fewstep.engine.sentinels import measure
from fewstep.methods.score_losses import combined_gradient
from fewstep.methods.stage import Stage
from fewstep.methods.student_inputs import StudentInputs
from src.samplers import ode_plan, ode_states


class Shown(NamedTuple):
    """What the student was shown for a part, and what it made of it: `output` with its graph, or
    None where that is made again when it is needed; `fake` without."""

    part: Part
    inputs: tuple
    output: torch.Tensor
    fake: torch.Tensor


class StudentStage(Stage):
    """Phase 2: a few-step generator from the teacher, by score distillation and a GAN.

    model: starts as the teacher; the noise levels in its scheduler are the paths of sampling.
    teacher: frozen denoiser. distiller: a `Distiller` or None; adversary: an `Adversary` or None.
    ema: decay of the average, an update. The other arguments are fields of
    `fewstep.runs.settings.Student`, `Distillation` and `Discriminator`.

    The first `warm_start` steps regress on the teacher's ODE; in the next `disc_warmup` the
    discriminator and the fake score learn alone; then the student joins at every `disc_steps`-th.
    """

    name = "student"

    def __init__(
        self,
        model,
        teacher,
        distiller,
        adversary,
        total,
        autocast,
        processes,
        kernels,
        lr,
        warmup,
        ema,
        freeze_convs,
        level_shares,
        self_input_share,
        warm_start,
        warm_nfe,
        distill_final,
        distill_decay_from,
        balance,
        adv_weight,
        adv_ramp,
        disc_warmup,
        disc_steps,
    ):
        super().__init__(model, lambda step: warmed_decay(step, ema), kernels)
        self.teacher = teacher.eval().requires_grad_(False)
        self.distiller, self.adversary = distiller, adversary
        if freeze_convs:
            freeze_convolutions(model.network)
        trained = [p for p in model.parameters() if p.requires_grad]
        levels, device = model.scheduler.few_step_table, model.device
        optimizer = moving_target_adam(trained, lr, kernels)
        self.learner = Learner(model, "denoise", optimizer, autocast, processes, device)
        noise_like = model.scheduler.noise_like
        self.inputs = StudentInputs(
            levels, device, self._denoise, noise_like, level_shares, self_input_share
        )
        self.first_level = next(iter(levels.values()))[0]  # that of every path
        self.total, self.lr, self.warmup = total, lr, warmup
        self.warm_start, self.warm_nfe = warm_start, warm_nfe
        self.distill_final, self.distill_decay_from = distill_final, distill_decay_from
        self.balance, self.adv_weight, self.adv_ramp = balance, adv_weight, adv_ramp
        self.alone = disc_warmup if self.critics else 0
        self.disc_steps = disc_steps if self.critics else 1

    @property
    def critics(self):
        """The networks that learn beside the student."""
        disc = self.adversary and self.adversary.disc
        fake_score = self.distiller and self.distiller.fake_score
        return [network for network in (disc, fake_score and fake_score.model) if network]

    @property
    def settled(self):
        """The step from which sentinels hold: all parts learn at their full weight, and the blur of
        the teacher's one-step answers has had time to go."""
        full_weight = self.warm_start + self.alone + (self.adv_ramp if self.adversary else 0)
        return max(full_weight, self.total // 3)

    def _kept(self):
        parts = {"model": self.model, "average": self.average, "optimizer": self.learner.optimizer}
        for part in (self.distiller, self.adversary):
            parts |= part.kept() if part else {}
        return parts

    def _denoise(self, x, sigma, next_sigma):
        return self.learner.run(self.model.denoise, x, sigma, next_sigma)

    def step(self, parts, step):
        """One update of everyone whose turn it is, on a list of `Part`. Returns scalar tensors by
        name."""
        if step < self.warm_start:
            return self._warm_step(parts, step)
        learnt = step - self.warm_start - self.alone
        learning = learnt >= 0 and learnt % self.disc_steps == 0
        # Graphs of several parts would fill the memory that parts are there to save.
        shown = [self._show(part, keep_graph=learning and len(parts) == 1) for part in parts]
        metrics = mean_metrics([self._sentinels(show) for show in shown])
        if self.distiller:
            metrics |= self.distiller.learn(shown)
        if self.adversary:
            metrics |= self.adversary.learn(shown, step)
        if learning:
            metrics |= self._student_step(shown, step, learnt)
        return metrics

    def _show(self, part, keep_graph):
        part.begin("inputs")
        inputs = self.inputs.draw(part.images)
        if keep_graph:
            output = self._output(part, inputs)
            return Shown(part, inputs, output, output.detach())
        part.begin("output")
        with torch.no_grad():
            return Shown(part, inputs, None, self._denoise(*inputs))

    def _output(self, part, inputs):
        part.begin("output")  # dropout, if any, draws the same each time
        return self.learner(*inputs)

    def _sentinels(self, show):
        return measure(show.fake[: self.inputs.count_first(len(show.fake))], show.part.images)

    def _student_step(self, shown, step, learnt):
        late = late_decay(step, self.total, self.distill_final, self.distill_decay_from)
        weights = late, self.adv_weight * ramp(learnt, 0, self.adv_ramp)
        backward = partial(self._backward, weights=weights, count=len(shown))
        rows = self.learner.gather(shown, backward)
        return mean_metrics(rows) | self._update(self.warm_start + learnt)

    def _backward(self, show, weights, count):
        output = show.output
        if output is None:
            output = self._output(show.part, show.inputs)
        show.part.begin("student")
        # Gradients at the image are cheap and tell both losses apart; the student is walked once.
        leaf, metrics = output.detach().requires_grad_(), {}
        distill_grad = adv_grad = None
        if self.distiller:
            loss = self.distiller.loss_of(leaf).mean()
            (distill_grad,) = torch.autograd.grad(loss, leaf)
            metrics["distill_loss"] = loss.detach()
        if self.adversary:
            loss = self.adversary.loss_of(leaf, show.part.images).mean()
            (adv_grad,) = torch.autograd.grad(loss, leaf)
            metrics["adv_loss"] = loss.detach()
        grad, ratio = combined_gradient(distill_grad, adv_grad, *weights, self.balance)
        if ratio is not None:
            metrics["grad_ratio"] = ratio
        output.backward(grad / count)
        return metrics

    def _warm_step(self, parts, step):
        """Regress on what the teacher's ODE makes of the same noise, from the first level on."""

        def backward(part):
            part.begin("inputs")
            x, sigma, next_sigma = self.inputs.draw_first(part.images)
            target = self._ode_images(x)
            loss = (self._output(part, (x, sigma, next_sigma)) - target).square().mean()
            (loss / len(parts)).backward()
            return {"warm_loss": loss.detach()}

        return mean_metrics(self.learner.gather(parts, backward)) | self._update(step)

    @torch.no_grad()
    def _ode_images(self, x):
        sigma = self.first_level
        plan = ode_plan(self.warm_nfe, heun=True)
        scheduler = self.teacher.scheduler
        levels = scheduler.ode_sigmas(len(plan), sigma_max=sigma)

        def denoise(x, level):
            return self.learner.run(self.teacher.denoise, x, level)

        step = scheduler.reverse_process_step
        *_, images = ode_states(denoise, step, levels, plan, lambda: x / sigma)
        return images

    def _update(self, learnt):
        """Step with the gradients that are there."""
        length = self.total - self.alone
        self.learner.optimizer.set_lr(self.lr * warmup_cosine(learnt, length, self.warmup))
        norm, dropped = self.learner.apply()
        self.follow()
        return {"grad_norm": norm, "skipped": dropped}


def freeze_convolutions(network):
    """Stop the U-Net's inner 3x3 convolutions from learning: GAN distillation can do without most
    of them (Zheng and Yang 2024, arXiv:2405.20750). Normalisation, embeddings, attention and both
    ends still learn."""
    for part in (network.downblocks, network.middleblocks, network.upblocks):
        for layer in part.modules():
            if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size != (1, 1):
                layer.requires_grad_(False)
