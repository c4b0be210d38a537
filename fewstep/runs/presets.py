"""Named settings: a size of everything, and a recipe for phase 2. Flags win over both."""

PRESETS = {
    "full": {},
    # Minutes on two CPU cores: small network, short phases, everything scaled down with them.
    "tiny": dict(
        network="tiny",
        batch_size=8,
        num_iterations=1400,
        lr=2e-3,
        warmup=30,
        p_mean=-0.3,
        p_std=1.5,
        noise_offset=0.15,
        teacher_steps=15,
        student_iterations=600,
        student_lr=5e-4,
        student_warmup=20,
        student_ema_images=550.0,
        sigmas=[5.0, 2.0, 1.0, 0.5],
        fake_lr=1e-3,
        disc="patch",  # docs/results/ablation.md
        disc_lr=2e-3,
        disc_warmup=30,
        adv_ramp=100,
        penalty_weight=50.0,
        ada_images=2000.0,
        log_interval=50,
        save_interval=500,
        sample_interval=500,
    ),
}

# For phase 2, whatever the size; flags that are not given here stay as the size has them.
RECIPES = {
    "default": {},
    # A few hundred to a few thousand images: the discriminator must not learn them by heart.
    "low_data": dict(
        augment="translation,color",
        augment_p=0.0,
        ada_target=0.6,
        student_dropout=0.1,
        disc_std=1.2,
    ),
    # Few updates: a start on the teacher's samples, then cheap steps (small discriminator, rare
    # penalty, no self-generated inputs).
    "low_compute": dict(
        distill="add",
        disc="patch",
        warm_start=100,
        penalty_interval=4,
        self_input_share=0.0,
    ),
    # Distribution matching as in DMD2 (arXiv:2405.14867): a fake score at a ratio of 5.
    "dmd2": dict(
        distill="dmd",
        disc="unet",
        fake_steps=5,
        self_input_share=1.0,
        distill_final=1.0,
    ),
}
