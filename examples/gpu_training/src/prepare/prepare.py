"""Writes two moons: points of two classes that no straight line parts."""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path

POINTS = 600


def main(target: Path, seed: int) -> None:
    """Writes the points of both classes, each a list of x, y and the class."""
    chance = random.Random(seed)
    rows = []
    for number in range(POINTS):
        label = number % 2
        angle = chance.uniform(0, math.pi)
        x, y = (math.cos(angle), math.sin(angle)) if label == 0 else (1 - math.cos(angle), 0.5 - math.sin(angle))
        rows.append([round(x + chance.gauss(0, 0.1), 4), round(y + chance.gauss(0, 0.1), 4), label])
    target.mkdir(parents=True, exist_ok=True)
    (target / "moons.json").write_text(json.dumps(rows))
    print(f"{len(rows)} points")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
