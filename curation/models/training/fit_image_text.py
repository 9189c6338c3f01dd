"""Fits the embedded image-text head on captioned photos, and measures it on photos it does not fit.

    python -m curation.models.training.fit_image_text CAPTIONS.jsonl [--out image_text.safetensors]

A line of the table: {"file": path relative to the table, "captions": [five or more], "permissive": bool};
lines with fewer captions are ignored. Rows with a permissive licence are fitted, all others are the test.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from curation.models.efficientnet import EfficientNet, synsets, unit, wordnet
from curation.models.image_text import FILE, Array, Head
from curation.models.minilm import MiniLm
from curation.pixels import Pixels

RIDGE = 0.2  # of the mean eigenvalue of the Gram matrix
CAPTIONS = 5


@dataclass(frozen=True)
class Photos:
    """pooled [N, 1280], logits [N, 1000], captions [N, 5, 384] (unit length), permissive bool [N]."""

    pooled: Array
    logits: Array
    captions: Array
    permissive: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Photos":
        return Photos(self.pooled[rows], self.logits[rows], self.captions[rows], self.permissive[rows])


def read(table: Path, images: EfficientNet, texts: MiniLm) -> Photos:
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if len(row["captions"]) >= CAPTIONS]
    features = []
    for row in rows:
        with Image.open(table.parent / row["file"]) as image:
            features += images.features([Pixels.of(np.asarray(image.convert("RGB")))])
    return Photos(
        np.array([feature.pooled for feature in features]),
        np.array([feature.logits for feature in features]),
        np.array([texts.embed(row["captions"][:CAPTIONS]) for row in rows]),
        np.array([row["permissive"] for row in rows]),
    )


def class_embeddings(texts: MiniLm) -> Array:
    """[1000, 384], less their mean: `kit fox, Vulpes macrotis: small grey fox of southwestern ...`.

    The definition makes up for ImageNet's odd names, most of which no caption ever says.
    """
    lemmas, definitions = wordnet("lemma"), wordnet("definition")
    entries = texts.embed([f"{lemmas[synset]}: {definitions[synset]}" for synset in synsets()])
    return entries - entries.mean(axis=0)


def fit(photos: Photos, classes: Array) -> Head:
    """Ridge regression in its dual form: there are fewer photos than features."""
    features, targets = unit(photos.pooled), photos.captions.mean(axis=1)
    feature_mean, text_mean = features.mean(axis=0), targets.mean(axis=0)
    centred = features - feature_mean
    gram = centred @ centred.T
    ridge = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    up = np.linalg.solve(gram + ridge, targets - text_mean).astype(np.float32)
    head = Head(classes, feature_mean, np.ascontiguousarray(centred.T), up, text_mean, np.empty((0, 0), np.float32))
    return Head(**{**vars(head), "references": head.by_class(photos.logits)})


def score(head: Head, photos: Photos, caption: int) -> Array:
    """[N, N]: similarity of picture i with the given caption of picture j."""
    places = unit(head.by_class(photos.logits) + head.by_features(photos.pooled))
    texts = photos.captions[:, caption]
    return np.array([[head.similarity(place, text) for text in texts] for place in places], np.float32)


def auc(scores: Array) -> float:
    """The chance that a matching pair scores above a pair of a picture and another's caption."""
    swapped = scores[~np.eye(len(scores), dtype=bool)]
    return float((np.diag(scores)[:, None] > swapped).mean())


def recall(scores: Array, within: int = 10) -> float:
    """The share of pictures whose own caption is among the `within` best of all captions."""
    return float(((scores > np.diag(scores)[:, None]).sum(axis=1) < within).mean())


def measure(head: Head, photos: Photos) -> NDArray[np.float64]:
    """Mean (AUC, recall@10) over the five choices of one caption a photo."""
    tables = [score(head, photos, caption) for caption in range(CAPTIONS)]
    return np.mean([(auc(table), recall(table)) for table in tables], axis=0)


def cross_validate(photos: Photos, classes: Array, held_out: int = 79, repeats: int = 10) -> None:
    """Fitted on the rest, measured on 79 held-out photos, ten random divisions."""
    rows = []
    for seed in range(repeats):
        order = np.random.default_rng(seed).permutation(len(photos.pooled))
        rows.append(measure(fit(photos[order[held_out:]], classes), photos[order[:held_out]]))
    mean, spread, worst = np.mean(rows, axis=0), np.std(rows, axis=0), np.min(rows, axis=0)
    for i, name in enumerate(("AUC matched/swapped", f"recall@10 of {held_out}")):
        print(f"{name}: mean {mean[i]:.3f}, spread {spread[i]:.3f}, worst {worst[i]:.3f}")


def report(head: Head, test: Photos) -> None:
    area, found = measure(head, test)
    print(f"test on {len(test.pooled)} photos: AUC {area:.3f}, recall@10 {found:.3f}")
    tables = np.array([score(head, test, caption) for caption in range(CAPTIONS)])
    own = np.eye(len(test.pooled), dtype=bool)
    for name, values in (("matching", tables[:, own]), ("swapped", tables[:, ~own])):
        quantiles = np.quantile(values, (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99))
        print(f"{name}, quantiles 1 5 25 50 75 95 99 %:", " ".join(f"{value:+.2f}" for value in quantiles))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    images, texts = EfficientNet(""), MiniLm("")
    photos, classes = read(arguments.table, images, texts), class_embeddings(texts)
    cross_validate(photos, classes)
    head = fit(photos[photos.permissive], classes)
    report(head, photos[~photos.permissive])
    save_file({name: value.astype(np.float16) for name, value in vars(head).items()}, arguments.out)
    arguments.out.chmod(0o644)
    print(f"fitted on {int(photos.permissive.sum())} photos: {arguments.out}")


if __name__ == "__main__":
    main()
