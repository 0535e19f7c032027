"""The visible-token form of a Swin block against the plain one."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.swin import SwinBlock, visible_pays
from models.token_map import TokenMap
from models.visible import CHUNK, visible_windows

LENGTH = 16  # tokens of a window


def block(shift: int, *, std: float = 0.3) -> SwinBlock:
    """A block in which every part matters: all of its parameters are random."""
    made = SwinBlock(12, 3, 4, shift, 24)
    generator = torch.Generator().manual_seed(shift)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    return made


def hidden_of(shape: tuple[int, int, int], ratio: float, seed: int = 0) -> Tensor:
    batch, height, width = shape
    drawn = torch.rand(batch, height // 4, width // 4, LENGTH, generator=torch.Generator().manual_seed(seed))
    return drawn < ratio


def tokens_of(shape: tuple[int, int, int]) -> Tensor:
    return torch.randn(*shape, 12, generator=torch.Generator().manual_seed(1))


def results(
    made: SwinBlock, tokens: Tensor, hidden: Tensor, keep: Tensor | None, run: Callable[..., TokenMap | Tensor]
) -> dict[str, Tensor]:
    """Output, and gradients of a random projection of it."""
    tokens = tokens.clone().requires_grad_()
    made.zero_grad()
    output = run(tokens, hidden, keep)
    output = output.map() if isinstance(output, TokenMap) else output
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
    (output * weights).sum().backward()
    gradients = {name: value.grad.clone() for name, value in made.named_parameters() if value.grad is not None}
    return {"output": output.detach(), "tokens": tokens.grad, **gradients}


def visible(made: SwinBlock) -> Callable[..., TokenMap]:
    return lambda tokens, hidden, keep: made._run_visible(TokenMap.of(tokens), hidden.flatten(0, 2), keep)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max().clamp_min(1.0)
        torch.testing.assert_close(
            found[name] / scale, value / scale, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.75, 0.97, 1.0])
def test_visible_tokens_alone_give_the_output_and_all_gradients_of_the_plain_form(shift: int, ratio: float) -> None:
    made, shape = block(shift), (3, 16, 24)
    hidden = hidden_of(shape, ratio)
    keep = torch.tensor([[1.0, 1.0], [0.0, 1.25], [1.25, 0.0]])
    for factors in (None, keep):
        found = results(made, tokens_of(shape), hidden, factors, visible(made))
        assert_equal(found, results(made, tokens_of(shape), hidden, factors, made._run_plain))


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 4, 20), (2, 8, 4), (1, 64, 64)])
def test_maps_of_one_row_of_windows_and_of_several_chunks_are_equal_too(shape: tuple[int, int, int]) -> None:
    made = block(2)
    hidden = hidden_of(shape, 0.75)
    found = results(made, tokens_of(shape), hidden, None, visible(made))
    assert_equal(found, results(made, tokens_of(shape), hidden, None, made._run_plain))


def test_with_and_without_gradients_the_output_is_the_same_to_the_bit() -> None:
    made, shape = block(2), (2, 32, 32)
    hidden, tokens = hidden_of(shape, 0.75), tokens_of(shape)
    with torch.no_grad():
        without = made(TokenMap.of(tokens), hidden=hidden).map()
    assert torch.equal(made(TokenMap.of(tokens), hidden=hidden).map(), without)


def test_a_token_hidden_from_attention_changes_nothing_but_itself() -> None:
    made, shape = block(0), (1, 8, 8)
    hidden, tokens = hidden_of(shape, 0.75), tokens_of(shape)
    hidden[0, 0, 0, 5] = True  # row 1, column 1 of the map
    changed = tokens.clone()
    changed[0, 1, 1] += 3
    with torch.no_grad():
        one, other = (made(TokenMap.of(value), hidden=hidden).map() for value in (tokens, changed))
    same = (one == other).all(-1)[0]
    assert not same[1, 1]
    assert same.sum() == 63


def test_logits_out_of_range_fall_back_to_the_plain_form() -> None:
    made, shape = block(0, std=8.0), (1, 8, 8)
    hidden, tokens = hidden_of(shape, 0.75), tokens_of(shape)
    with pytest.raises(ArithmeticError), torch.no_grad():
        visible(made)(tokens, hidden, None)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            output = made(TokenMap.of(tokens), hidden=hidden).map()
            assert torch.equal(output, made._run_plain(tokens, hidden, None))
        assert torch.isfinite(output).all()


def test_the_form_is_chosen_by_the_share_of_hidden_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    made, shape = block(2), (1, 16, 16)
    calls = []
    original = SwinBlock._run_visible
    monkeypatch.setattr(SwinBlock, "_run_visible", lambda *given: calls.append(1) or original(*given))
    for ratio, uses in ((0.2, 0), (0.75, 1)):
        calls.clear()
        hidden = hidden_of(shape, ratio)
        assert visible_pays(hidden) == bool(uses)
        made(TokenMap.of(tokens_of(shape)), hidden=hidden)
        assert len(calls) == uses
    assert not visible_pays(hidden_of(shape, 0.75).to("meta"))  # any device but a CPU: no synchronisation


def test_a_network_in_float64_takes_the_plain_form_and_agrees() -> None:
    made, shape = block(2), (2, 16, 24)
    hidden, tokens = hidden_of(shape, 0.75), tokens_of(shape)
    expected = made(TokenMap.of(tokens), hidden=hidden).map()
    found = made.double()(TokenMap.of(tokens.double()), hidden=hidden).map()
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=1e-5)


def test_bfloat16_is_close_in_output_and_gradients() -> None:
    made, shape = block(2), (2, 32, 32)
    hidden = hidden_of(shape, 0.75)
    exact = results(made, tokens_of(shape), hidden, None, visible(made))
    with torch.autocast("cpu", torch.bfloat16):
        found = results(made, tokens_of(shape), hidden, None, visible(made))
    assert found["output"].dtype == torch.float32
    for name, value in exact.items():
        if name.endswith("qkv.bias"):  # that of the keys has no gradient but rounding errors
            value, found[name] = (torch.cat([part[:12], part[24:]]) for part in (value, found[name]))
        # bfloat16 rounds to 2**-9; sums of a few hundred roundings stay far below 3 %.
        assert (found[name] - value).norm() < 0.03 * value.norm(), name


def test_little_is_kept_for_the_backward_pass() -> None:
    made, shape = block(2), (2, 32, 32)
    hidden = hidden_of(shape, 0.75)
    sizes = {}
    for name, run in (("visible", visible(made)), ("plain", made._run_plain)):
        kept: dict[int, int] = {}

        def pack(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run(tokens_of(shape).requires_grad_(), hidden, None)
        sizes[name] = sum(kept.values())
    assert sizes["visible"] < sizes["plain"] / 10


def test_threads_do_not_share_buffers() -> None:
    made, shape = block(2), (1, 64, 64)
    inputs = [(tokens_of(shape) * scale, hidden_of(shape, 0.75, seed)) for seed, scale in enumerate((1.0, 2.0, 0.5))]

    def run(index: int) -> Tensor:
        tokens, hidden = inputs[index]
        with torch.no_grad():
            return made(TokenMap.of(tokens), hidden=hidden).map()

    expected = [run(index) for index in range(3)]
    found: dict[int, list[Tensor]] = {}
    threads = [
        threading.Thread(target=lambda index=index: found.update({index: [run(index) for _ in range(5)]}))
        for index in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(3):
        assert all(torch.equal(output, expected[index]) for output in found[index])


@pytest.mark.parametrize("count", [1, CHUNK, CHUNK + 1, 1000])
def test_every_window_is_in_one_chunk_and_every_visible_token_in_one_slot(count: int) -> None:
    hidden = torch.rand(count, LENGTH, generator=torch.Generator().manual_seed(0)) < 0.75
    chunks = visible_windows(hidden)
    assert torch.equal(torch.cat([chunk.windows for chunk in chunks]).sort().values, torch.arange(count))
    for chunk in chunks:
        visible_of = ~hidden[chunk.windows]
        assert torch.equal(visible_of.view(-1).nonzero()[:, 0], chunk.visible)
        assert torch.equal(chunk.slots[chunk.filled], torch.arange(len(chunk.visible)))
        size = len(chunk.slots) // len(chunk.windows)
        assert size == max(1, int(visible_of.sum(1).max()))
        pairs = chunk.pairs.view(-1, size, size)
        for window, row in enumerate(visible_of):
            places = row.nonzero()[:, 0]
            expected = places[:, None] * (LENGTH + 1) + places
            assert torch.equal(pairs[window, : len(places), : len(places)], expected)
            assert (pairs[window, len(places) :] >= LENGTH * (LENGTH + 1)).all()


def test_a_map_finds_its_tokens_in_any_order() -> None:
    tokens = tokens_of((2, 4, 8))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    moved = TokenMap.of(tokens).reordered(tokens.view(64, 12)[order], order)
    assert torch.equal(moved.map(), tokens)
    assert torch.equal(moved.rows[moved.find(torch.tensor([5, 40]))], tokens.view(64, 12)[[5, 40]])
