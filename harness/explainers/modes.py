"""Which modes a latent's activating windows fall into: windows alike in what fires and in what stands around it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.questions.render import activating_positions
from harness.values import Example

__all__ = ["around", "bags", "modes", "silhouette"]

# tokens before and after the strongest one that are embedded: what a token means shows within some words of it
_BEFORE, _AFTER = 8, 4
# how often a marked token counts in a bag: what fires says more than what stands around it
_MARKED: Final = 3.0


def around(example: Example) -> str:
    """The text around a window's strongest token, which stands for the window where windows are embedded."""
    peak = int(np.argmax(example.activations))
    return "".join(example.passage.tokens[max(0, peak - _BEFORE) : peak + _AFTER + 1])


def bags(examples: Sequence[Example]) -> NDArray[np.float64]:
    """Each window as its bag of tokens, `[windows, tokens]`, TF-IDF over these windows (Salton and Buckley 1988).

    The weight of a token is `(1 + log n) * log(N / df)`: it stands n times in a window, once marked as three times, and
    in df of N windows. Those of one window alone make nothing alike and are left out; case and blanks are.
    """
    counts: list[dict[str, float]] = []
    for example in examples:
        marked = set(activating_positions(example).tolist())
        found: dict[str, float] = {}
        for place, token in enumerate(example.passage.tokens):
            if word := token.strip().lower():
                found[word] = found.get(word, 0.0) + (_MARKED if place in marked else 1.0)
        counts.append(found)
    windows = Counter(word for found in counts for word in found)
    columns = {word: at for at, word in enumerate(sorted(word for word, df in windows.items() if df > 1))}
    weights = np.zeros((len(counts), len(columns)))
    for row, found in enumerate(counts):
        for word, count in found.items():
            if word in columns:
                weights[row, columns[word]] = (1 + math.log(count)) * math.log(len(counts) / windows[word])
    return weights


def modes(vectors: NDArray[np.floating], most: int, least: int) -> tuple[NDArray[np.int64], float | None]:
    """Part windows into 2 to `most` modes of at least `least` windows each: the number of largest silhouette.

    Clusters are Ward's (1963) of unit vectors. Where no number is possible there is one mode.

    Args:
        vectors: `[windows, width]`, compared by direction alone.
        most: the largest number of modes.
        least: the fewest windows of a mode.

    Returns:
        The mode of each window, int64 `[windows]`, from 0 in the order of first windows; and the silhouette, in
        [-1, 1], None of one mode.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # takes longer to import than most commands take

    whole = np.zeros(len(vectors), dtype=np.int64)
    if len(vectors) < 2 * least or most < 2:
        return whole, None
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(vectors, norms, out=np.zeros(vectors.shape), where=norms > 0)
    tree = linkage(unit, "ward")
    # rounded, so that the last bits of a product decide nothing
    cosine = 1 - np.round(unit @ unit.T, 6)
    best, height = whole, None
    for count in range(2, most + 1):
        labels = np.unique(fcluster(tree, count, "maxclust"), return_inverse=True)[1]
        if labels.max() + 1 != count or np.bincount(labels).min() < least:
            continue
        value = silhouette(cosine, labels)
        if height is None or value > height:
            best, height = labels, value
    first = [int(np.flatnonzero(best == mode)[0]) for mode in range(int(best.max()) + 1)]
    return np.argsort(np.argsort(first))[best], height


def silhouette(distances: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    """The mean silhouette of a clustering, in [-1, 1] (Rousseeuw 1987).

    Of a window, `(b - a) / max(a, b)`: a is its mean distance from the others of its cluster, b the smallest mean
    distance from another cluster's; 0 where it is alone in its cluster.

    Args:
        distances: `[windows, windows]`, symmetric, 0 on the diagonal.
        labels: the cluster of each window, from 0, at least two of them.
    """
    members = labels[:, None] == np.arange(int(labels.max()) + 1)
    sizes = members.sum(axis=0)
    sums = distances @ members
    rows = np.arange(len(labels))
    own = sizes[labels]
    within = sums[rows, labels] / np.maximum(own - 1, 1)
    means = sums / sizes
    means[rows, labels] = np.inf
    between = means.min(axis=1)
    larger = np.maximum(within, between)
    values = np.divide(between - within, larger, out=np.zeros(len(labels)), where=(larger > 0) & (own > 1))
    return float(values.mean())
