"""Which parts of the photographs become targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.data.held_out import Area
from pipeline.training.targets import Part, areas_in, plan_targets


def test_small_photographs_become_one_target_and_large_ones_spread_patches(tmp_path: Path) -> None:
    files = [(Path("a.jpg"), 480, 500), (Path("b.jpg"), 3000, 4000)]
    parts = plan_targets(files, tmp_path, megapixels=4.0, least=120)
    small, *large = parts
    assert small == Part(Path("a.jpg"), tmp_path / "0_a.png", 0, 0, 480, 500)
    assert sum(part.height * part.width for part in large) == pytest.approx(2e6, rel=0.3)
    assert len({part.target for part in parts}) == len(parts)
    for part in large:
        assert (part.height, part.width) == (512, 512)
        assert 0 <= part.top <= 3000 - 512
        assert 0 <= part.left <= 4000 - 512
    assert min(part.top for part in large) < 1000 < 2000 < max(part.top + part.height for part in large)
    assert min(part.left for part in large) < 1300 < 2700 < max(part.left + part.width for part in large)


def test_parts_that_are_held_out_become_no_targets_and_areas_move_with_their_part(tmp_path: Path) -> None:
    photo, corner = Path("a.jpg"), Area("a.jpg", 0, 0, 1000, 1400)
    everything = plan_targets([(photo, 3000, 4000)], tmp_path, megapixels=8.0, least=120)
    parts = plan_targets([(photo, 3000, 4000)], tmp_path, megapixels=8.0, least=120, held_out=[corner])
    lost = set(everything) - set(parts)
    assert lost
    # What stays has room for a crop: more than 1000 - 120 down, or as much to the right.
    assert all(part.top + 512 <= 1000 + 120 and part.left + 512 <= 1400 + 120 for part in lost)
    part = Part(photo, tmp_path / "t.png", 900, 1200, 512, 512)
    assert areas_in(part, [corner, Area("b.jpg", 0, 0, 9, 9)]) == [Area(str(part.target), -900, -1200, 1000, 1400)]


@pytest.mark.parametrize("shape", [(600, 5000), (5000, 600), (513, 513), (400, 9000)])
def test_patches_of_odd_shapes_lie_inside_and_do_not_overlap(shape: tuple[int, int], tmp_path: Path) -> None:
    parts = plan_targets([(Path("a.jpg"), *shape)], tmp_path, megapixels=1.0, least=120)
    taken = np.zeros(shape, int)
    for part in parts:
        assert part.top >= 0
        assert part.left >= 0
        assert part.top + part.height <= shape[0]
        assert part.left + part.width <= shape[1]
        taken[part.top : part.top + part.height, part.left : part.left + part.width] += 1
    assert taken.max() == 1
