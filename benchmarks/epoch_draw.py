"""Drawing an epoch of ten million samples, compared with the published implementations in the same run.

    python benchmarks/epoch_draw.py [samples]

The published ways are reimplemented from their descriptions: a new NumPy permutation, converted to a Python list, and
for SeTa also scikit-learn's k-means on the losses and a list of ids per cluster, on a tenth of the samples and scaled
up, since it takes minutes. Ours: `set_epoch` and all ids of the epoch as an array. Best of three, wall-clock.
"""

import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch
from sklearn.cluster import KMeans

from secateur.selectors.samplers.contract import EpochSampler
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.selectors.samplers.rs2 import Rs2
from secateur.selectors.samplers.seta import Seta

KEEP, EPOCHS = 0.3, 100
PART = 10
"""The published SeTa is timed on one in this many samples."""


def published_rs2(samples: int) -> list[int]:
    """A permutation of all samples, whose head is the epoch."""
    return np.random.permutation(samples)[: int(KEEP * samples)].tolist()


def published_info_batch(losses: np.ndarray) -> list[int]:
    """Well-learned samples, drawn without replacement, appended to the rest, as a list, shuffled."""
    learned = losses < losses.mean()
    easy, kept = np.where(learned)[0], np.where(~learned)[0].tolist()
    weights = np.ones(len(losses))
    chosen = np.random.choice(easy, int(0.5 * len(easy)), replace=False)
    weights[chosen] = 2
    kept.extend(chosen.tolist())
    np.random.shuffle(kept)
    return kept


def published_seta(losses: np.ndarray) -> list[int]:
    """K-means on the losses of a random part, ids listed cluster by cluster, clusters of the window, shuffled."""
    part = np.random.permutation(len(losses))[: int(0.9 * len(losses))]
    labels = KMeans(5, random_state=0, n_init=1).fit(losses[part].reshape(-1, 1)).labels_
    clusters: list[list[int]] = [[] for _ in range(5)]
    for sample, label in zip(part.tolist(), labels.tolist(), strict=True):
        clusters[label].append(sample)
    clusters.sort(key=lambda ids: float(np.mean(losses[ids])))
    kept = [sample for ids in clusters[1:5] for sample in ids]
    np.random.shuffle(kept)
    return kept


def best(work: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest run."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def draw(sampler: EpochSampler, ids: torch.Tensor, losses: torch.Tensor) -> float:
    """Seconds to draw an epoch and list all its ids, after losses were observed for every sample."""
    epoch = iter(range(1, 4))

    def once() -> None:
        sampler.set_epoch(next(epoch))
        sampler.epoch_ids()

    seconds = []
    for _ in range(3):
        sampler.observe(ids, losses)
        seconds.append(best(once, 1))
    return min(seconds)


def streamed_memory(samples: int) -> tuple[float, float]:
    """Peak MiB, and microseconds per id, when RS2's epoch is consumed id by id."""
    tracemalloc.start()
    sampler = Rs2(samples, keep=KEEP)
    sampler.set_epoch(7)
    for _, _ in zip(range(100_000), sampler, strict=False):
        pass
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    iterator = iter(sampler)
    start = time.perf_counter()
    for _, _ in zip(range(200_000), iterator, strict=False):
        pass
    return peak, (time.perf_counter() - start) / 200_000 * 1e6


def main() -> None:
    """Print one line per method."""
    samples = int(float(sys.argv[1])) if len(sys.argv) > 1 else 10**7
    values = np.random.default_rng(0).lognormal(size=samples).astype(np.float32)
    ids, losses = torch.arange(samples), torch.from_numpy(values)
    rows = [
        ("RS2", Rs2(samples, keep=KEEP), best(lambda: published_rs2(samples)), 0.3),
        ("RS2, keep all", Rs2(samples, keep=1.0), best(lambda: np.random.permutation(samples).tolist()), 0.3),
        ("InfoBatch", InfoBatch(samples, EPOCHS), best(lambda: published_info_batch(values), 1), 1.0),
        ("SeTa", Seta(samples, EPOCHS), best(lambda: published_seta(values[::PART].copy()), 1) * PART, 2.0),
    ]
    print(f"{samples:,} samples, {torch.get_num_threads()} threads")
    for name, sampler, theirs, target in rows:
        ours = draw(sampler, ids, losses)
        print(
            f"{name:14} ours {ours:6.3f} s (target {target} s), published {theirs:7.2f} s: {theirs / ours:6.1f} times"
        )
    peak, microseconds = streamed_memory(10**9)
    print(f"RS2 streamed from 10^9 samples: peak {peak:.2f} MiB, {microseconds:.2f} µs per id")


if __name__ == "__main__":
    main()
