"""Pictures of a search can be read."""

from __future__ import annotations

import pytest

from tuning.plots import _label, _unit, new_figure


def test_what_is_searched_by_factors_is_shown_by_factors_with_names_that_can_be_read() -> None:
    rates = [0.00025, 0.002, 0.008]
    panel = new_figure(1).subplots()
    panel.plot(rates, [1, 2, 3])
    _label(panel, "optimizer.lr", rates)
    assert panel.get_xscale() == "log"
    assert [text.get_text() for text in panel.get_xticklabels()] == ["0.0003", "0.001", "0.003"]
    assert list(panel.get_xticks()) == pytest.approx([0.0003, 0.001, 0.003])
    assert not list(panel.get_xticks(minor=True))
    assert _unit(rates) == pytest.approx([0, 0.6, 1])
    assert _unit([2, 3, 5]) == pytest.approx([0, 1 / 3, 1])
