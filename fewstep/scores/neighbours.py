"""Nearest neighbours in a feature space, and what they say about a generator: precision and recall
(Kynkäänniemi et al. 2019, arXiv:1904.06991), density and coverage (Naeem et al. 2020,
arXiv:2002.09797), and whether it copies its training images.

Features are `[N, D]`. Distances are taken in blocks of rows: no matrix of all pairs is ever kept.
"""

import numpy as np
import torch

from fewstep.scores.frechet import checked_features

CHUNK = 256
# A matrix product finds neighbours four times faster but puts equal rows up to 1e-5 apart; so it
# only proposes this many, whose distances are then taken from differences.
CANDIDATES = 4


def nearest(queries, references, chunk=CHUNK, device="cpu"):
    """Euclidean distance `[N]` (float64) and index `[N]` (int64) of each query's nearest reference.

    Of equally near ones any may be named. `chunk` rows are compared at a time on `device`. Raises
    `ValueError` for features that are empty, not finite or of different D.
    """
    queries, references = checked_features(queries), checked_features(references)
    if queries.shape[1] != references.shape[1]:
        raise ValueError(f"dimensions differ: {queries.shape}, {references.shape}")
    kept = min(CANDIDATES, len(references))
    centre = references.mean(axis=0)  # small numbers lose less
    targets = torch.from_numpy(references - centre).to(device)
    distances, indices = np.empty(len(queries)), np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), chunk):
        rows = slice(start, min(start + chunk, len(queries)))
        block = torch.from_numpy(queries[rows] - centre).to(device)
        rough = torch.cdist(block, targets, compute_mode="use_mm_for_euclid_dist")
        candidates = rough.topk(kept, largest=False).indices.cpu().numpy()  # [rows, kept]
        exact = np.linalg.norm(queries[rows, None] - references[candidates], axis=2)
        best = exact.argmin(axis=1)[:, None]
        distances[rows] = np.take_along_axis(exact, best, 1)[:, 0]
        indices[rows] = np.take_along_axis(candidates, best, 1)[:, 0]
    return distances, indices


def kth_distances(features, k, chunk=CHUNK):
    """Distance `[N]` of each row to its k-th nearest other row (an equal row is at distance 0).

    Raises `ValueError` unless k is at least 1 and there are more than k rows.
    """
    if k < 1:
        raise ValueError(f"k = {k}: a neighbour's rank starts at 1")
    features = checked_features(features, k + 1)
    radii = np.empty(len(features))
    for rows, block in _distance_blocks(features, features, chunk):
        radii[rows] = block.kthvalue(k + 1, dim=1).values.numpy()  # the first is the row itself
    return radii


def precision_recall(real, generated, k=3, chunk=CHUNK):
    """(precision, recall), each in [0, 1]: the share of generated rows inside the real manifold and
    of real rows inside the generated one (Kynkäänniemi et al. 2019, eq. 1 and 2).

    A set's manifold is the union of balls around its rows that reach to the k-th nearest other row;
    a row on the very edge is outside, as in the `prdc` package. Two samples of one distribution do
    not give 1, so report the real images' own values beside these. Raises `ValueError` unless both
    have more than k rows.
    """
    real_radii = torch.from_numpy(kth_distances(real, k, chunk))
    generated_radii = torch.from_numpy(kth_distances(generated, k, chunk))
    inside_real = torch.zeros(len(generated), dtype=torch.bool)
    inside_generated = torch.empty(len(real), dtype=torch.bool)
    for rows, block in _distance_blocks(real, generated, chunk):
        inside_real |= (block < real_radii[rows, None]).any(dim=0)
        inside_generated[rows] = (block < generated_radii).any(dim=1)
    return inside_real.double().mean().item(), inside_generated.double().mean().item()


def density_coverage(real, generated, k=5, chunk=CHUNK):
    """(density, coverage) (Naeem et al. 2020, eq. 4 and 5), with the balls of `precision_recall`.

    Density is the mean number of real balls around a generated row over k: 1 is expected for equal
    distributions, more is possible. Coverage, in [0, 1], is the share of real rows whose ball holds
    a generated row. Raises `ValueError` unless `real` has more than k rows.
    """
    generated = checked_features(generated)
    radii = torch.from_numpy(kth_distances(real, k, chunk))
    inside, covered = 0, 0
    for rows, block in _distance_blocks(real, generated, chunk):
        in_ball = block < radii[rows, None]
        inside += in_ball.sum().item()
        covered += in_ball.any(dim=1).sum().item()
    return inside / (k * len(generated)), covered / len(radii)


def memorisation(distances, heldout_distances):
    """Are generated images nearer to training images than new real images are?

    Both are distances to the nearest training row, as of `nearest`: `[N]` of the generated rows and
    `[M]` of the held-out ones. Returns `nearest_median` and `nearest_median_heldout`, their
    medians, and `share_closer`, the share of generated rows nearer to a training row than the 1st
    percentile of the held-out distances. 0.01 is expected of images of the real distribution that
    copy nothing, 1 of copies; with fewer than 99 held-out rows there is no such percentile, and no
    `share_closer`. Where the held-out images hold copies of training images themselves, the
    percentile is near 0 and the share says nothing.
    """
    scores = {
        "nearest_median": float(np.median(distances)),
        "nearest_median_heldout": float(np.median(heldout_distances)),
    }
    if len(heldout_distances) >= 99:
        # Weibull's percentile is the one below which a new draw lies with chance 0.01 on average.
        threshold = np.percentile(heldout_distances, 1, method="weibull")
        scores["share_closer"] = float((distances < threshold).mean())
    return scores


def _distance_blocks(queries, references, chunk):
    """Yields a slice of the queries' rows and its distances to all references, `[rows, M]`.

    From differences, not from a matrix product. That would be four times faster at D = 2048, but
    puts equal rows up to 1e-5 apart: copies and the edges of balls would depend on rounding.
    """
    queries, references = np.asarray(queries), np.asarray(references)
    if queries.shape[1] != references.shape[1]:
        raise ValueError(f"features {queries.shape}, {references.shape}: dimensions differ")
    queries = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float64))
    references = torch.from_numpy(np.ascontiguousarray(references, dtype=np.float64))
    for start in range(0, len(queries), chunk):
        rows = slice(start, min(start + chunk, len(queries)))
        exact = "donot_use_mm_for_euclid_dist"
        yield rows, torch.cdist(queries[rows], references, compute_mode=exact)
