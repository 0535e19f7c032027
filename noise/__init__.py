"""Probability models of noise, their recipes for training, and the measurement of unknown noise."""

from noise.camera_noise import CameraNoise as CameraNoise
from noise.corruption import Corruption as Corruption
from noise.recipe import NoiseRecipe as NoiseRecipe
from noise.recipe import corrupt as corrupt
from noise.srgb import Gaussian as Gaussian
