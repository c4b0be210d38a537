"""A small search for the noise levels of a few-step sampler.

A student is trained at four levels, and its sampler may visit others: which ones are best is asked
of samples, after training.
"""

from itertools import pairwise

COARSE, FINE = (0.5, 2**-0.5, 2**0.5, 2.0), (2**-0.25, 2**0.25)


def search_levels(score, starts, rounds=(COARSE, FINE)):
    """Coordinate search from the best of `starts`: in each round each level in turn is multiplied
    by the round's factors, and the best is kept.

    score(levels) -> float, smaller is better, called once for each list of levels. Levels stay
    falling and above 0. Returns the best levels, by the score never worse than any start, and
    [(levels, score), ...] of all that were tried.
    """
    tried = {tuple(levels): score(list(levels)) for levels in starts}
    best = min(tried, key=tried.get)
    for factors in rounds:
        for place in range(len(best)):
            base = best  # a level moves by one factor a round, not by a product of them
            for factor in factors:
                candidate = (*base[:place], base[place] * factor, *base[place + 1 :])
                if candidate in tried or any(a <= b for a, b in pairwise(candidate)):
                    continue
                tried[candidate] = score(list(candidate))
                if tried[candidate] < tried[best]:
                    best = candidate
    return list(best), [(list(levels), value) for levels, value in tried.items()]
