"""Prints what the ranks have found."""

from __future__ import annotations

import json
import sys
from pathlib import Path

line = json.loads(Path(sys.argv[1]).read_text())
print(f"y = {line['slope']:.2f} x + {line['intercept']:.2f}")
