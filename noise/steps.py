"""The table of recipes: for every kind, its spec and the function that makes its noise."""

from typing import Annotated, Final, NamedTuple

from noise.by_kind import ByKind
from noise.camera_noise import CameraNoise, add_camera_noise
from noise.correlated import Correlated, add_correlated
from noise.corruption import Apply
from noise.eld import EldNoise, add_eld_noise
from noise.mixture import Mixture, add_mixture
from noise.poisson import Poisson, add_poisson
from noise.salt_pepper import SaltPepper, add_salt_pepper
from noise.spatial import Spatial, add_spatial
from noise.speckle import Speckle, add_speckle
from noise.srgb import Gaussian, add_gaussian

AnyStep = Gaussian | Speckle | Poisson | Spatial | SaltPepper | Mixture | Correlated | CameraNoise | EldNoise
"""Any recipe that stands for itself."""

Step = Annotated[AnyStep, ByKind()]
"""The same, as the field of another spec."""


class Kind(NamedTuple):
    """One row of the table."""

    spec: type[AnyStep]
    """Which noise, and how its parameters are drawn."""

    apply: Apply
    """What makes the noise of such parameters."""


STEPS: Final[dict[str, Kind]] = {
    "gaussian": Kind(Gaussian, add_gaussian),
    "speckle": Kind(Speckle, add_speckle),
    "poisson": Kind(Poisson, add_poisson),
    "spatial": Kind(Spatial, add_spatial),
    "salt_pepper": Kind(SaltPepper, add_salt_pepper),
    "mixture": Kind(Mixture, add_mixture),
    "correlated": Kind(Correlated, add_correlated),
    "camera": Kind(CameraNoise, add_camera_noise),
    "eld": Kind(EldNoise, add_eld_noise),
}
