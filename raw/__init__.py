"""Camera physics in both directions, sRGB image to packed raw and back, and raw files; without noise."""
