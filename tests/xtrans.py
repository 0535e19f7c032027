"""The colours of Fujifilm's X-Trans cell, for tests that make raw files."""

import numpy as np

# fmt: off
XTRANS = np.array([
    [0, 2, 1, 2, 0, 1],
    [1, 1, 0, 1, 1, 2],
    [1, 1, 2, 1, 1, 0],
    [2, 0, 1, 0, 2, 1],
    [1, 1, 2, 1, 1, 0],
    [1, 1, 0, 1, 1, 2],
], dtype=np.uint8)
# fmt: on
"""(6, 6) 0 R, 1 G, 2 B."""
