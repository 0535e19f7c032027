"""The training step in plain torch, and the loop, checkpoints and launch around it."""
