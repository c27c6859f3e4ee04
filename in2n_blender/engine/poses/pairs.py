"""Which photos are compared with which: all of few, of many those that look alike, of a video those near in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ALL_UP_TO = 60  # photos, of which every pair is compared
ALIKE = 20  # photos that each of more is compared with
NEAR_IN_TIME = 6  # frames of a video that each is compared with, and as many at distances that double
WORDS, SAMPLES, ROUNDS = 32, 20_000, 12


def choose_pairs(descriptors: Sequence[np.ndarray], in_order: bool, seed: int = 0) -> list[tuple[int, int]]:
    """Pairs of photos to be compared.

    Args:
        descriptors: (features, 128) uint8 SIFT descriptors of every photo.
        in_order: Whether they are frames of a video, in their order.
        seed: Of the vocabulary.

    Returns:
        Pairs (i, j) with i < j, in order.
    """
    count = len(descriptors)
    if count <= ALL_UP_TO:
        return [(i, j) for i in range(count) for j in range(i + 1, count)]
    alike = most_alike(global_descriptors(descriptors, seed), ALIKE // 2 if in_order else ALIKE)
    steps = {*range(1, NEAR_IN_TIME + 1), *(2**power for power in range(3, 3 + NEAR_IN_TIME))} if in_order else {1, 2}
    near = {(i, i + step) for i in range(count) for step in steps if i + step < count}
    return sorted(near | {(min(i, j), max(i, j)) for i, row in enumerate(alike) for j in row})


def global_descriptors(descriptors: Sequence[np.ndarray], seed: int = 0) -> np.ndarray:
    """One vector a photo, near for photos that show the same: VLAD (Jégou et al. 2010) over a vocabulary of the photos.

    Args:
        descriptors: (features, 128) uint8 of every photo.
        seed: Of the vocabulary.

    Returns:
        (photos, WORDS * 128) float32 of unit length; 0 for a photo without features.
    """
    random = np.random.default_rng(seed)
    roots = [_root(each) for each in descriptors]
    everything = np.concatenate([each[:: max(1, len(each) * len(roots) // SAMPLES)] for each in roots])
    if not len(everything):
        return np.zeros((len(roots), WORDS * 128), np.float32)
    words = everything[random.choice(len(everything), WORDS, replace=len(everything) < WORDS)]
    for _ in range(ROUNDS):
        nearest = _nearest(everything, words)
        for word in range(WORDS):
            members = everything[nearest == word]
            if len(members):
                words[word] = members.mean(0)
    return np.stack([_vlad(each, words) for each in roots])


def most_alike(vectors: np.ndarray, count: int) -> list[list[int]]:
    """The nearest others of each vector.

    Args:
        vectors: (photos, n) of unit length.
        count: How many others, at most.

    Returns:
        For each, the others' indices, the nearest first.
    """
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -np.inf)
    return [np.argsort(-row, kind="stable")[: min(count, len(row) - 1)].tolist() for row in alike]


def _root(descriptors: np.ndarray) -> np.ndarray:
    """RootSIFT (Arandjelović and Zisserman 2012)."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1e-6))


def _nearest(values: np.ndarray, words: np.ndarray) -> np.ndarray:
    return (values @ words.T - 0.5 * (words**2).sum(1)).argmax(1)


def _vlad(values: np.ndarray, words: np.ndarray) -> np.ndarray:
    sums = np.zeros_like(words)
    if len(values):
        nearest = _nearest(values, words)
        np.add.at(sums, nearest, values - words[nearest])
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)  # a word that is everywhere says little
    flat = sums.ravel()
    return flat / max(float(np.linalg.norm(flat)), 1e-6)
