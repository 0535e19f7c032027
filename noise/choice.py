"""One of several recipes, drawn anew for every image: for training on more than one kind of noise."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from noise.corruption import Parameters
from noise.ranges import draw_uniform
from noise.steps import Step


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Recipes of which each image gets one."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["choice"] = "choice"
    """Tag of this recipe."""

    recipes: tuple[Step, ...] = ()
    """What is chosen from, at least one."""

    shares: tuple[float, ...] = ()
    """How often each is drawn, in parts of their sum; () for equally often."""

    def __post_init__(self) -> None:
        if not self.recipes:
            raise ValueError("recipes must hold at least one recipe, got none")
        if self.shares and len(self.shares) != len(self.recipes):
            raise ValueError(f"shares must be one number a recipe, {len(self.recipes)} in all, got {len(self.shares)}")
        if self.shares and not all(0 < share < float("inf") for share in self.shares):
            raise ValueError(f"shares must be above 0 and finite, got {self.shares}")

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw which recipe, then its parameters: they are those of the recipe itself, `kind` included."""
        shares = self.shares or (1.0,) * len(self.recipes)
        left = draw_uniform((0.0, sum(shares)), generator)
        for recipe, share in zip(self.recipes, shares, strict=True):
            left -= share
            if left < 0:
                return recipe.draw(generator)
        return self.recipes[-1].draw(generator)  # the sum was rounded
