"""Splits the 1,797 handwritten digits inside scikit-learn into data to train, to choose and to test with."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from airflow_mlpipe import Run

parser = argparse.ArgumentParser()
parser.add_argument("--output", type=Path, help="folder to write train.npz, validation.npz and test.npz to")
parser.add_argument("--seed", type=int, help="decides which image goes where")
args = parser.parse_args()

run = Run.get_context()

images, labels = load_digits(return_X_y=True)
images = images / 16  # grey levels 0 to 16 become 0 to 1

train_x, rest_x, train_y, rest_y = train_test_split(
    images, labels, test_size=0.4, random_state=args.seed, stratify=labels
)
validation_x, test_x, validation_y, test_y = train_test_split(
    rest_x, rest_y, test_size=0.5, random_state=args.seed, stratify=rest_y
)

args.output.mkdir(parents=True)
parts = {"train": (train_x, train_y), "validation": (validation_x, validation_y), "test": (test_x, test_y)}
for name, (x, y) in parts.items():
    np.savez(args.output / f"{name}.npz", x=x, y=y)
    run.log(f"{name}_images", len(y))
    print(f"{name}: {len(y)} images of 8 x 8 pixels")
