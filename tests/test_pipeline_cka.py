"""CKA: the identities it must have, an unbiased HSIC, and equality with the formula written out in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.evaluation.cka import MinibatchCka, gram, hsic, jackknife_error, minibatch_cka

Floats = NDArray[np.float64]


def random(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def hsic_in_loops(x: Floats, y: Floats) -> float:
    """HSIC_1 straight from its definition, of features (n, D)."""
    n = len(x)
    k = [[0.0 if i == j else float(np.dot(x[i], x[j])) for j in range(n)] for i in range(n)]
    l = [[0.0 if i == j else float(np.dot(y[i], y[j])) for j in range(n)] for i in range(n)]  # noqa: E741
    trace = sum(k[i][j] * l[j][i] for i in range(n) for j in range(n))
    all_k, all_l = sum(map(sum, k)), sum(map(sum, l))
    middle = sum(k[i][j] * l[j][m] for i in range(n) for j in range(n) for m in range(n))
    return (trace + all_k * all_l / ((n - 1) * (n - 2)) - 2 / (n - 2) * middle) / (n * (n - 3))


def cka_in_loops(left: list[list[Floats]], right: list[list[Floats]]) -> Floats:
    result = np.zeros((len(left[0]), len(right[0])))
    batches = range(len(left))
    for a in range(len(left[0])):
        for b in range(len(right[0])):
            cross = np.mean([hsic_in_loops(left[i][a], right[i][b]) for i in batches])
            own_a = np.mean([hsic_in_loops(left[i][a], left[i][a]) for i in batches])
            own_b = np.mean([hsic_in_loops(right[i][b], right[i][b]) for i in batches])
            result[a, b] = cross / math.sqrt(own_a * own_b)
    return result


def test_equals_the_formula_in_loops() -> None:
    left = [[random(10 * i + a, n, 5 + a) + 3 for a in range(3)] for i, n in enumerate((4, 7, 9))]
    right = [
        [random(500 + 10 * i + b, n, 6) + left[i][0] @ random(b, 5, 6) for b in range(2)]
        for i, n in enumerate((4, 7, 9))
    ]
    np.testing.assert_allclose(minibatch_cka(left, right), cka_in_loops(left, right), rtol=0, atol=1e-9)


def test_features_may_have_any_shape_and_a_large_mean_in_float32() -> None:
    clean = random(0, 12, 3, 4, 5)
    shifted = (clean + 1000).astype(np.float32)
    np.testing.assert_allclose(minibatch_cka([[clean]], [[shifted]]), 1, atol=1e-6)


def test_a_representation_is_like_itself_its_rotations_and_its_multiples() -> None:
    x = random(0, 20, 8)
    rotation = np.linalg.qr(random(1, 8, 8))[0]
    for same in (x, x @ rotation, -2.5 * x, x @ rotation * 1e-3 + 7):
        assert minibatch_cka([[x]], [[same]])[0, 0] == pytest.approx(1, abs=1e-9)
    other = x @ np.diag([10, 1, 1, 1, 1, 1, 1, 0.1])
    assert minibatch_cka([[x]], [[other]])[0, 0] < 0.9


def test_hsic_of_independent_features_is_zero_on_average() -> None:
    trials, n = 4000, 5
    generator = np.random.default_rng(0)
    values = np.array(
        [
            hsic(gram(generator.normal(size=(n, 6)))[None], gram(generator.normal(size=(n, 6)))[None])
            for _ in range(trials)
        ]
    ).ravel()
    # 5 standard errors of the mean: false alarm under 1e-6.
    assert abs(values.mean()) < 5 * values.std() / math.sqrt(trials)
    # The biased estimate, tr(K H L H) / (n - 1)^2, would be caught: its mean is 6 * 6 * (n - 1) / (n - 1)^2 = 9.
    assert 5 * values.std() / math.sqrt(trials) < 9 / 3


def test_small_batches_do_not_make_it_larger() -> None:
    """The mean over many small batches estimates what one large batch does, as the unbiased HSIC promises."""
    x = random(0, 960, 10)
    y = x @ random(1, 10, 10) + 3 * random(2, 960, 10)
    whole = minibatch_cka([[x]], [[y]])[0, 0]
    small = minibatch_cka(([part] for part in np.split(x, 160)), ([part] for part in np.split(y, 160)))[0, 0]
    assert small == pytest.approx(whole, abs=0.05)


def test_layers_that_do_not_vary_have_no_cka() -> None:
    x = random(0, 6, 3)
    assert np.isnan(minibatch_cka([[np.ones((6, 3)), x]], [[x]])[:, 0]).tolist() == [True, False]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 examples, got 3"):
        minibatch_cka([[random(0, 3, 2)]], [[random(1, 3, 2)]])
    with pytest.raises(ValueError, match="same examples"):
        minibatch_cka([[random(0, 5, 2)]], [[random(1, 6, 2)]])
    with pytest.raises(ValueError, match="shorter"):
        minibatch_cka([[random(0, 5, 2)]], [])
    with pytest.raises(ValueError, match="at least one batch"):
        MinibatchCka().value()
    total = MinibatchCka()
    total.add(gram(random(0, 5, 2))[None], gram(random(0, 5, 2))[None])
    with pytest.raises(ValueError, match="same layers"):
        total.add(np.stack([gram(random(0, 5, 2))] * 2), gram(random(0, 5, 2))[None])


def test_the_error_is_the_jackknife_over_batches() -> None:
    x, y = random(0, 5, 8, 3), random(1, 5, 8, 3)
    y += x
    total = MinibatchCka()
    for a, b in zip(x, y, strict=True):
        total.add(gram(a)[None], gram(b)[None])
    left_out = [minibatch_cka(*([[part] for part in np.delete(side, i, 0)] for side in (x, y))) for i in range(5)]
    np.testing.assert_allclose(total.without(), left_out, atol=1e-12)
    values = [float(value[0, 0]) for value in left_out]
    mean = sum(values) / 5
    expected = math.sqrt(4 / 5 * sum((value - mean) ** 2 for value in values))
    assert jackknife_error(total.without())[0, 0] == pytest.approx(expected, rel=1e-9)


def test_the_error_of_a_mean_is_the_usual_one() -> None:
    values = random(0, 50)
    without = np.array([np.delete(values, index).mean() for index in range(50)])
    assert jackknife_error(without) == pytest.approx(values.std(ddof=1) / math.sqrt(50), rel=1e-9)
    assert np.isnan(jackknife_error(without[:1]))


def test_draws_of_the_same_examples_are_left_out_together() -> None:
    x, y = random(0, 4, 8, 3), random(1, 4, 8, 3)
    y += x
    apart, joined = MinibatchCka(), MinibatchCka()
    for index, (a, b) in enumerate(zip(x, y, strict=True)):
        apart.add(gram(a)[None], gram(b)[None])
        joined.add(gram(a)[None], gram(b)[None], joined=index % 2 == 1)
    np.testing.assert_allclose(apart.value(), joined.value(), atol=1e-12)
    assert [len(total.without()) for total in (apart, joined)] == [4, 2]
    second_half = minibatch_cka([[part] for part in x[2:]], [[part] for part in y[2:]])
    np.testing.assert_allclose(joined.without()[0], second_half, atol=1e-12)
