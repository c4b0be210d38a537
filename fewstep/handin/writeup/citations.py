"""The sources that a write-up may cite, and their numbers in the order of first use.

The same sources, with the equations, are cited in docs/method.md and beside the code.
"""

# key: (authors, title, year, where)
SOURCES = {
    "ada": (
        "Karras et al.",
        "Training Generative Adversarial Networks with Limited Data",
        2020,
        "arXiv:2006.06676",
    ),
    "adam": ("Kingma, Ba", "Adam: A Method for Stochastic Optimization", 2014, "arXiv:1412.6980"),
    "add": (
        "Sauer, Lorenz, Blattmann, Rombach",
        "Adversarial Diffusion Distillation",
        2023,
        "arXiv:2311.17042",
    ),
    "approx_r1": (
        "Lin et al.",
        "Diffusion Adversarial Post-Training for One-Step Video Generation",
        2025,
        "arXiv:2501.08316",
    ),
    "c2st": (
        "Lopez-Paz, Oquab",
        "Revisiting Classifier Two-Sample Tests",
        2016,
        "arXiv:1610.06545",
    ),
    "clean_fid": (
        "Parmar, Zhang, Zhu",
        "On Aliased Resizing and Surprising Subtleties in GAN Evaluation",
        2022,
        "arXiv:2104.11222",
    ),
    "consistency": (
        "Song, Dhariwal, Chen, Sutskever",
        "Consistency Models",
        2023,
        "arXiv:2303.01469",
    ),
    "ddpm": (
        "Ho, Jain, Abbeel",
        "Denoising Diffusion Probabilistic Models",
        2020,
        "arXiv:2006.11239",
    ),
    "diff_augment": (
        "Zhao et al.",
        "Differentiable Augmentation for Data-Efficient GAN Training",
        2020,
        "arXiv:2006.10738",
    ),
    "diffusion_gan": (
        "Wang et al.",
        "Diffusion-GAN: Training GANs with Diffusion",
        2022,
        "arXiv:2206.02262",
    ),
    "dmd": (
        "Yin et al.",
        "One-step Diffusion with Distribution Matching Distillation",
        2023,
        "arXiv:2311.18828",
    ),
    "dmd2": (
        "Yin et al.",
        "Improved Distribution Matching Distillation for Fast Image Synthesis",
        2024,
        "arXiv:2405.14867",
    ),
    "dreamfusion": (
        "Poole, Jain, Barron, Mildenhall",
        "DreamFusion: Text-to-3D using 2D Diffusion",
        2022,
        "arXiv:2209.14988",
    ),
    "edm": (
        "Karras, Aittala, Aila, Laine",
        "Elucidating the Design Space of Diffusion-Based Generative Models",
        2022,
        "arXiv:2206.00364",
    ),
    "edm2": (
        "Karras et al.",
        "Analyzing and Improving the Training Dynamics of Diffusion Models",
        2023,
        "arXiv:2312.02696",
    ),
    "fid": (
        "Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter",
        "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
        2017,
        "arXiv:1706.08500",
    ),
    "frozen": (
        "Zheng, Yang",
        "Diffusion Models Are Innate One-Step Generators",
        2024,
        "arXiv:2405.20750",
    ),
    "gan": ("Goodfellow et al.", "Generative Adversarial Networks", 2014, "arXiv:1406.2661"),
    "hinge": ("Lim, Ye", "Geometric GAN", 2017, "arXiv:1705.02894"),
    "kid": (
        "Bińkowski, Sutherland, Arbel, Gretton",
        "Demystifying MMD GANs",
        2018,
        "arXiv:1801.01401",
    ),
    "ladd": (
        "Sauer et al.",
        "Fast High-Resolution Image Synthesis with Latent Adversarial Diffusion Distillation",
        2024,
        "arXiv:2403.12015",
    ),
    "least_squares": (
        "Mao et al.",
        "Least Squares Generative Adversarial Networks",
        2016,
        "arXiv:1611.04076",
    ),
    "offset": ("Guttenberg", "Diffusion with Offset Noise", 2023, "CrossLabs (web article)"),
    "pix2pix": (
        "Isola, Zhu, Zhou, Efros",
        "Image-to-Image Translation with Conditional Adversarial Networks",
        2016,
        "arXiv:1611.07004",
    ),
    "pix2pixhd": (
        "Wang et al.",
        "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs",
        2017,
        "arXiv:1711.11585",
    ),
    "prdc": (
        "Naeem et al.",
        "Reliable Fidelity and Diversity Metrics for Generative Models",
        2020,
        "arXiv:2002.09797",
    ),
    "progan": (
        "Karras, Aila, Laine, Lehtinen",
        "Progressive Growing of GANs",
        2018,
        "arXiv:1710.10196",
    ),
    "projection": (
        "Miyato, Koyama",
        "cGANs with Projection Discriminator",
        2018,
        "arXiv:1802.05637",
    ),
    "r1": (
        "Mescheder, Geiger, Nowozin",
        "Which Training Methods for GANs do actually Converge?",
        2018,
        "arXiv:1801.04406",
    ),
    "r3gan": (
        "Huang, Gokaslan, Kuleshov, Tompkin",
        "The GAN is dead; long live the GAN! (R3GAN)",
        2025,
        "arXiv:2501.05441",
    ),
    "relativistic": (
        "Jolicoeur-Martineau",
        "The relativistic discriminator",
        2018,
        "arXiv:1807.00734",
    ),
    "sid": ("Zhou et al.", "Score identity Distillation", 2024, "arXiv:2404.04057"),
    "spectral": (
        "Miyato, Kataoka, Koyama, Yoshida",
        "Spectral Normalization for Generative Adversarial Networks",
        2018,
        "arXiv:1802.05957",
    ),
    "stylegan2": (
        "Karras et al.",
        "Analyzing and Improving the Image Quality of StyleGAN",
        2020,
        "arXiv:1912.04958",
    ),
    "timm": ("Wightman", "PyTorch Image Models", 2019, "doi:10.5281/zenodo.4414861"),
    "vqgan": (
        "Esser, Rombach, Ommer",
        "Taming Transformers for High-Resolution Image Synthesis",
        2021,
        "arXiv:2012.09841",
    ),
}


class Citations:
    """Numbers sources in the order in which they are first cited."""

    def __init__(self):
        self.used = []

    def __call__(self, *keys):
        """The mark of these sources, ` [3, 7]`, behind a space at which no line breaks."""
        for key in keys:
            if key not in self.used:
                self.used.append(key)
        numbers = sorted({self.used.index(key) + 1 for key in keys})
        return "\u00a0[" + ",\u00a0".join(map(str, numbers)) + "]"

    def entries(self):
        """(`"[1]"`, text) of every source cited, in order."""
        texts = ["{}. {}. {}. {}".format(*_parts(key)) for key in self.used]
        return [(f"[{number}]", text) for number, text in enumerate(texts, 1)]


def _parts(key):
    authors, title, year, where = SOURCES[key]
    return authors.rstrip("."), title, year, where
