"""Probability models of noise, their recipes for training, and the measurement of unknown noise."""

from noise.camera_noise import CameraNoise as CameraNoise
from noise.choice import Choice as Choice
from noise.correlated import Correlated as Correlated
from noise.corruption import Corruption as Corruption
from noise.eld import EldNoise as EldNoise
from noise.mixture import Mixture as Mixture
from noise.poisson import Poisson as Poisson
from noise.recipe import NoiseRecipe as NoiseRecipe
from noise.recipe import corrupt as corrupt
from noise.recipe import corrupt_batch as corrupt_batch
from noise.salt_pepper import SaltPepper as SaltPepper
from noise.sequence import Sequence as Sequence
from noise.spatial import Spatial as Spatial
from noise.speckle import Speckle as Speckle
from noise.srgb import Gaussian as Gaussian
