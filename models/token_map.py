"""A map of tokens whose rows may be in any order, so that a block need not put back what the next one takes apart."""

from dataclasses import dataclass

from torch import Tensor

from .windows import inverse_permutation


@dataclass(frozen=True, slots=True)
class TokenMap:
    """Tokens of a batch of images of H x W tokens; P = B * H * W."""

    rows: Tensor
    """(P, D)."""

    shape: tuple[int, int, int]
    """B, H, W."""

    position: Tensor | None = None
    """(P,) int64, the row of each token, images and their pixels row by row; None if that is their order."""

    @staticmethod
    def of(tokens: Tensor) -> "TokenMap":
        """Wrap (B, H, W, D)."""
        batch, height, width, dim = tokens.shape
        return TokenMap(rows=tokens.reshape(-1, dim), shape=(batch, height, width))

    def map(self) -> Tensor:
        """The tokens as (B, H, W, D)."""
        rows = self.rows if self.position is None else self.rows.index_select(0, self.position)
        return rows.view(*self.shape, rows.shape[1])

    def find(self, places: Tensor) -> Tensor:
        """Rows of the tokens numbered ``places``."""
        return places if self.position is None else self.position[places]

    def reordered(self, rows: Tensor, places: Tensor) -> "TokenMap":
        """The same tokens with new values ``rows``, of which row i is token ``places[i]``."""
        return TokenMap(rows=rows, shape=self.shape, position=inverse_permutation(places))
