"""Join the sentences of a text data set into requests with several intents: data with several labels per row.

python benchmarks/label_sets.py --data clinc150 --out clinc150_sets  # below SECATEUR_DATA

Each sentence occurs once: a seeded permutation of the rows is cut into runs of one, two or three sentences with equal
probability. A request is the sequence of a run's sentences, its labels the set of their intents.
"""

import argparse
import os
from pathlib import Path

import datasets
import numpy as np

SIZES = (1, 2, 3)


def joined(rows: datasets.Dataset, seed: int) -> datasets.Dataset:
    """Columns `text` and `intents`, lists of intent names in the order of the sentences."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows))
    ends = np.cumsum(rng.choice(SIZES, len(rows)))
    runs = [run for run in np.split(order, ends[ends < len(rows)]) if len(run)]
    texts, labels, name = rows["text"][:], rows["label"][:], rows.features["label"].int2str
    return datasets.Dataset.from_dict(
        {
            "text": [" ".join(texts[row] for row in run) for run in runs],
            "intents": [list(dict.fromkeys(name(labels[row]) for row in run)) for run in runs],
        }
    )


def main() -> None:
    """Write both splits as Parquet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="clinc150", help="a folder with text and label in {train,test}.parquet")
    parser.add_argument("--out", default="clinc150_sets")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(os.environ.get("SECATEUR_DATA", "data"))
    (folder / options.out).mkdir(parents=True, exist_ok=True)
    for number, split in enumerate(("train", "test")):
        read = datasets.Dataset.from_parquet(str(folder / options.data / f"{split}.parquet"))
        made = joined(read, options.seed + number)
        made.to_parquet(folder / options.out / f"{split}.parquet")
        sizes = np.bincount([len(intents) for intents in made["intents"]], minlength=4)[1:]
        print(f"{split}: {len(made):,} requests; with one, two and three intents: {', '.join(map(str, sizes))}")


if __name__ == "__main__":
    main()
