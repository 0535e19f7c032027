"""Searches over mask ratios and other settings with Ray Tune."""
