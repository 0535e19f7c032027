"""`python -m pipeline`: the same program as `unveil`, for places where only the checkout is there."""

from __future__ import annotations

from pipeline.cli import main

if __name__ == "__main__":
    main()
