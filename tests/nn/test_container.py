"""Lists and dicts of modules behave as Python's, and know what belongs to the model."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
MAKERS: list[Callable[..., Any]] = [lambda *m: nn.Sequential(*m), lambda *m: nn.ModuleList(m)]


@pytest.fixture(params=MAKERS, ids=["Sequential", "ModuleList"])
def listed(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_it_changes_as_a_list_does(listed: Any) -> None:
    """The same changes to a list and to the module; names count on from 0 after each."""
    layers = [nn.Linear(i + 1, i + 1) for i in range(8)]
    ours, plain = listed(*layers[:4]), layers[:4]
    changes: list[Callable[[Any], Any]] = [
        lambda m: m.append(layers[4]), lambda m: m.insert(1, layers[5]), lambda m: m.extend(layers[6:]), lambda m: m.insert(-1, layers[0]),
        lambda m: m.__setitem__(2, layers[7]), lambda m: m.__setitem__(-1, layers[1]), lambda m: m.__delitem__(0), lambda m: m.pop(),
        lambda m: m.__delitem__(slice(1, 5, 2)), lambda m: m.pop(1),
    ]
    for change in changes:
        change(ours)
        change(plain)
        assert list(ours) == plain and len(ours) == len(plain)
        assert [name for name, _ in ours.named_children()] == [str(i) for i, m in enumerate(plain) if m not in plain[:i]]
        assert ours[0] is plain[0] and ours[-1] is plain[-1] and list(ours[1:3]) == plain[1:3] and type(ours[1:]) is type(ours)
        assert plain[0] in ours and nn.Tanh() not in ours
    ours += [layers[3]]
    assert ours[-1] is layers[3]


def test_what_does_not_fit_is_refused_before_anything_changes(listed: Any) -> None:
    ours = listed(nn.Tanh(), nn.ReLU())
    before = list(ours)
    for attempt in (lambda: ours.append(len), lambda: ours.extend([nn.Tanh(), 3]), lambda: ours.insert(0, None),
                    lambda: ours.__setitem__(0, "tanh")):
        with pytest.raises(TypeError, match="expected a Module"):
            attempt()
    for out in (lambda: ours[2], lambda: ours[-3], lambda: ours.__delitem__(2), lambda: ours.__setitem__(5, nn.Tanh())):
        with pytest.raises(IndexError, match="has 2 entries"):
            out()
    assert list(ours) == before


def test_names_stay_with_their_modules_in_a_named_sequential() -> None:
    model = nn.Sequential(OrderedDict(first=nn.Linear(3, 2), act=nn.ReLU(), last=nn.Linear(2, 1)))
    model[1] = nn.Tanh()
    assert [name for name, _ in model.named_children()] == ["first", "act", "last"]
    assert list(model[1:].state_dict()) == ["last.weight", "last.bias"]
    del model[1]
    assert [name for name, _ in model.named_children()] == ["first", "last"] and model(X).shape == (4, 1)


def test_a_slice_runs_the_same_modules() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Sigmoid())
    assert np.array_equal(model[2:](model[:2](X)).array, model(X).array)


def test_a_dict_of_modules_is_a_dict() -> None:
    tanh, relu = nn.Tanh(), nn.ReLU()
    ours = nn.ModuleDict({"a": tanh})
    ours["b"] = relu
    ours.update([("c", nn.Linear(2, 2))])
    assert list(ours) == list(ours.keys()) == ["a", "b", "c"] and len(ours) == 3 and "b" in ours and "z" not in ours
    assert dict(ours.items())["b"] is relu and list(ours.values())[0] is tanh  # noqa: RUF015
    assert list(ours.state_dict()) == ["c.weight", "c.bias"]
    assert ours.pop("a") is tanh and list(ours) == ["b", "c"]
    with pytest.raises(KeyError, match="gone"):
        ours["gone"]
    with pytest.raises(KeyError, match="attribute 'items' already exists"):
        ours["items"] = nn.Tanh()
    ours.clear()
    assert len(ours) == 0 and list(ours.parameters()) == []


def test_a_list_of_parameters_belongs_to_the_model() -> None:
    class Poly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factors = nn.ParameterList([nn.Parameter(np.ones(1, np.float32)), np.full(1, 2.0, np.float32)])

        def forward(self, x: Any) -> Any:
            total = x * self.factors[0]
            for factor in self.factors[1:]:
                total = total * factor
            return total

    model = Poly()
    model.factors.append(mg.tensor([3.0]))
    assert [name for name, _ in model.named_parameters()] == ["factors.0", "factors.1", "factors.2"]
    assert model(mg.ones(1)).item() == 6 and "(2): float32[1]" in repr(model)


def test_a_module_list_does_not_run() -> None:
    with pytest.raises(TypeError, match="ModuleList needs a forward method"):
        nn.ModuleList([nn.Tanh()])(X)


def test_identity_gives_back_what_it_got() -> None:
    x = mg.ones(2)
    assert nn.Identity(3, unused=True)(x) is x


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 5, 3), (1, 1, 1, 3)])
def test_linear_works_along_the_last_axis(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    for layer in (nn.Linear(3, 2), nn.Linear(3, 2, bias=False)):
        x = rng.normal(size=shape)
        expected = x @ layer.weight.array.T + (0 if layer.bias is None else layer.bias.array)
        for given in (x, mg.tensor(x.astype(np.float32))):
            np.testing.assert_allclose(layer(given).array, expected, rtol=1e-5, atol=1e-6)
