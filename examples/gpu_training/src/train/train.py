"""Trains a small neural network on the moons. It needs nothing but Python, and says which GPUs it was given.

Where it runs shows in its log alone: the model is the same everywhere.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
from pathlib import Path

HIDDEN = 12
RATE = 0.15
HELD_BACK = 5
"""Every fifth point is for the test."""


def main(data: Path, target: Path, epochs: int) -> None:
    """Trains on most of the points and writes the weights with the accuracy on the rest."""
    print("GPUs:", os.environ.get("NVIDIA_VISIBLE_DEVICES", "none that this process knows of"))
    rows = json.loads((data / "moons.json").read_text())
    test, train = rows[::HELD_BACK], [row for place, row in enumerate(rows) if place % HELD_BACK]
    chance = random.Random(1)
    first = [[chance.uniform(-1, 1) for _ in range(3)] for _ in range(HIDDEN)]
    second = [chance.uniform(-1, 1) for _ in range(HIDDEN + 1)]
    for epoch in range(epochs):
        chance.shuffle(train)
        for x, y, label in train:
            learn(first, second, (x, y, 1.0), label)
        if (epoch + 1) % 20 == 0:
            print(f"epoch {epoch + 1}: {accuracy(first, second, test):.3f}", flush=True)
    model = {
        # The last digits are the machine's, not the model's.
        "hidden": [[round(weight, 4) for weight in unit] for unit in first],
        "output": [round(weight, 4) for weight in second],
        "accuracy": round(accuracy(first, second, test), 3),
    }
    target.mkdir(parents=True, exist_ok=True)
    (target / "model.json").write_text(json.dumps(model, indent=1) + "\n")


def learn(first: list[list[float]], second: list[float], point: tuple[float, float, float], label: int) -> None:
    """Moves the weights a little towards the label of one point."""
    hidden = [math.tanh(sum(map(float.__mul__, unit, point))) for unit in first]
    error = answer(hidden, second) - label
    for place, (unit, value) in enumerate(zip(first, hidden, strict=True)):
        slope = error * second[place] * (1 - value * value)
        second[place] -= RATE * error * value
        for axis in range(3):
            unit[axis] -= RATE * slope * point[axis]
    second[HIDDEN] -= RATE * error


def answer(hidden: list[float], second: list[float]) -> float:
    """Returns how sure the network is of class 1."""
    return 1 / (1 + math.exp(-sum(map(float.__mul__, hidden, second)) - second[HIDDEN]))


def accuracy(first: list[list[float]], second: list[float], rows: list[list[float]]) -> float:
    """Returns the share of points that are told right."""
    right = 0
    for x, y, label in rows:
        hidden = [math.tanh(sum(map(float.__mul__, unit, (x, y, 1.0)))) for unit in first]
        right += (answer(hidden, second) > 0.5) == bool(label)
    return right / len(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
