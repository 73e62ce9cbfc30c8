"""What a module does around its forward: hooks, keyword arguments, paths, walks; and that a thousand of them are no trouble."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ShapeError

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


class Two(nn.Module):
    """Two inputs, two outputs, one of which may go unused."""

    def forward(self, a: Any, b: Any, *, factor: float = 1.0) -> Any:
        return a * b, b * factor


# ---- forward hooks
def test_hooks_see_and_replace_arguments_and_output() -> None:
    layer, heard = nn.Linear(3, 2), []

    def before(module: Any, args: Any) -> Any:
        heard.append(("before", module is layer, args[0] is X))
        return np.zeros_like(X)

    def after(module: Any, args: Any, out: Any) -> Any:
        heard.append(("after", not args[0].any(), out.shape == (4, 2)))
        return out * 2.0

    first, second = layer.register_forward_pre_hook(before), layer.register_forward_hook(after)
    np.testing.assert_allclose(layer(X).array, np.tile(layer.bias.array * 2, (4, 1)))
    assert heard == [("before", True, True), ("after", True, True)]
    first.remove()
    second.remove()
    second.remove()
    np.testing.assert_array_equal(layer(X).array, nn.Sequential(layer)(X).array)
    assert len(heard) == 2


def test_hooks_take_keyword_arguments_and_an_order() -> None:
    module, heard = Two(), []
    module.register_forward_pre_hook(lambda m, args, kwargs: (args, {"factor": kwargs["factor"] + 1}), with_kwargs=True)
    module.register_forward_hook(lambda m, args, kwargs, out: heard.append(kwargs), with_kwargs=True)
    module.register_forward_hook(lambda m, args, out: heard.append("first"), prepend=True)
    _, out = module(mg.ones(2), mg.ones(2), factor=3.0)
    assert out.tolist() == [4, 4] and heard == ["first", {"factor": 4.0}]
    with module.register_forward_pre_hook(lambda m, args, kwargs: 5, with_kwargs=True), pytest.raises(TypeError, match=r"None or .args, kwargs."):
        module(mg.ones(2), mg.ones(2), factor=1.0)


def test_a_captured_step_follows_hooks_as_they_come_and_go() -> None:
    model = net()
    step = mg.capture(lambda x: model(x))

    def now() -> Any:
        found = {step(X).array.tobytes() for _ in range(4)}
        assert len(found) == 1
        return found.pop()

    plain = now()
    heard: list[int] = []

    def tripled(module: Any, args: Any, out: Any) -> Any:
        heard.append(1)
        return out * 3.0

    handle = model[1].register_forward_hook(tripled)
    with mg.no_grad():
        expected = model[2](model[1](model[0](X))).array.tobytes()
    heard.clear()
    assert now() == expected != plain
    assert len(heard) == 2  # while recording
    handle.remove()
    assert now() == plain


# ---- backward hooks
def gradients_by_hook(model: Any, module: Any, x: Any) -> tuple[Any, Any]:
    heard: list[Any] = []
    with module.register_full_backward_hook(lambda m, gi, go: heard.append((m, gi, go))):
        (model(x) * 2.0).sum().backward()
    (found, grad_input, grad_output), = heard
    assert found is module
    return grad_input, grad_output


def test_a_backward_hook_gets_the_gradients_of_input_and_output() -> None:
    model = net()
    x = mg.tensor(X, requires_grad=True)
    (grad_input,), (grad_output,) = gradients_by_hook(model, model[2], x)
    assert np.array_equal(grad_output.array, np.full((4, 2), 2, np.float32))
    np.testing.assert_allclose(grad_input.array, np.full((4, 2), 2) @ model[2].weight.array, rtol=1e-6)
    (grad_input,), _ = gradients_by_hook(model, model, x)
    assert grad_input.shape == (4, 3)
    (nothing,), (grad_output,) = gradients_by_hook(model, model[0], X)
    assert nothing is None and grad_output.shape == (4, 5)


def test_a_backward_hook_replaces_the_gradient_of_the_input() -> None:
    model = net()
    model(X).sum().backward()
    before = [p.grad.array.copy() for p in model.parameters()]  # type: ignore[union-attr]
    model.zero_grad()
    model[1].register_full_backward_hook(lambda m, gi, go: (gi[0] * 10.0,))
    model(X).sum().backward()
    for p, g, by in zip(model.parameters(), before, (10, 10, 1, 1), strict=True):
        np.testing.assert_allclose(p.grad.array, by * g, rtol=1e-5, atol=1e-6)  # type: ignore[union-attr]
    model[1].register_full_backward_hook(lambda m, gi, go: (mg.ones(3),))
    with pytest.raises(ShapeError, match=r"hook of Tanh returned \(float32\[3\]\) for grad_input, which is \(float32\[4, 5\]\)"):
        model(X).sum().backward()


@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)])
def test_several_inputs_and_outputs_come_to_the_hook_together(used: tuple[int, ...]) -> None:
    module, heard = Two(), []

    def hook(m: Any, grad_input: Any, grad_output: Any) -> Any:
        heard.append((grad_input, grad_output))
        return tuple(None if g is None else g * -1.0 for g in grad_input)

    module.register_full_backward_hook(hook)
    a, b = mg.tensor([2.0], requires_grad=True), mg.tensor([3.0], requires_grad=True)
    outs = module(a, b, factor=5.0)
    total = sum((outs[i] for i in used), start=mg.zeros(1))
    total.sum().backward(retain_graph=True)
    (grad_input, grad_output), = heard
    expected = [3.0 if 0 in used else None, (2.0 if 0 in used else 0) + (5.0 if 1 in used else 0)]
    assert [None if g is None else g.item() for g in grad_input] == expected
    assert [None if g is None else g.item() for g in grad_output] == [1.0 if i in used else None for i in (0, 1)]
    assert [None if t.grad is None else t.grad.item() for t in (a, b)] == [None if e is None else -e for e in expected]
    total.sum().backward()
    assert len(heard) == 2


def test_backward_hooks_agree_with_pytorch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(4, 3))
    ours = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3)).double()
    theirs.load_state_dict({name: torch.tensor(value.numpy()) for name, value in ours.state_dict().items()})
    found: list[list[Any]] = []
    for model, given in ((ours, mg.tensor(x, requires_grad=True)), (theirs, torch.tensor(x, requires_grad=True))):
        heard: list[Any] = []
        for module in model:
            module.register_full_backward_hook(lambda m, gi, go, heard=heard: heard.extend([gi[0].numpy().copy(), go[0].numpy().copy()]))
        (model(given) ** 2).sum().backward()
        found.append(heard)
    assert len(found[0]) == 6
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_backward_hook_in_a_captured_step_is_part_of_it() -> None:
    def trained(captured: bool) -> list[bytes]:
        mg.manual_seed(0)
        model = net()
        model[1].register_full_backward_hook(lambda m, gi, go: (gi[0] * 0.5,))

        def step(x: Any) -> Any:
            model.zero_grad()
            loss = model(x).sum()
            loss.backward()
            return loss

        run: Any = mg.capture(step) if captured else step
        for _ in range(4):
            run(X)
        return [p.grad.array.tobytes() for p in model.parameters()]  # type: ignore[union-attr]

    assert trained(True) == trained(False)


def test_an_output_without_tensors_cannot_have_a_backward_hook() -> None:
    class Odd(nn.Module):
        def forward(self, x: Any) -> Any:
            return {"x": x}

    module = Odd()
    module.register_full_backward_hook(lambda *a: None)
    with pytest.raises(TypeError, match="module output should be a Tensor or a tuple of Tensors, but Odd gave a dict"):
        module(mg.ones(1))


# ---- what it holds
def test_walks_are_in_order_of_definition_and_name_everything_once() -> None:
    shared = nn.Tanh()
    model = nn.Sequential(nn.Linear(2, 2), shared, nn.Sequential(shared, nn.Linear(2, 2)))
    assert [name for name, _ in model.named_modules()] == ["", "0", "1", "2", "2.1"]
    assert [name for name, _ in model.named_modules("net")] == ["net", "net.0", "net.1", "net.2", "net.2.1"]
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"] and list(model.children()) == [*model]
    assert [name for name, _ in model.named_parameters("net")] == ["net.0.weight", "net.0.bias", "net.2.1.weight", "net.2.1.bias"]
    assert list(model.parameters(recurse=False)) == [] and len(list(model[0].parameters(recurse=False))) == 2
    order: list[str] = []
    assert model.apply(lambda m: order.append(type(m).__name__)) is model
    assert order == ["Linear", "Tanh", "Linear", "Sequential", "Sequential"]


def test_parts_are_found_by_path() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Residual(nn.Linear(2, 2)))
    assert model.get_submodule("1.module") is model[1].module and model.get_submodule("") is model
    assert model.get_parameter("1.module.weight") is model[1].module.weight
    for find, path in ((model.get_submodule, "1.inner"), (model.get_parameter, "1.module.scale"), (model.get_buffer, "0.weight")):
        with pytest.raises(AttributeError, match=path.rpartition(".")[2]):
            find(path)


def test_freezing_and_zeroing_reach_every_parameter() -> None:
    model = net()
    model(X).sum().backward()
    model.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.array.any() for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    assert model.requires_grad_(False) is model and not model(X).requires_grad
    assert model.requires_grad_()(X).requires_grad


def test_a_class_with_a_train_of_its_own_is_asked() -> None:
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Any:
            return super().train(False)

    model = nn.Sequential(Frozen(nn.Tanh()), nn.Tanh()).train()
    assert [m.training for m in model.modules()] == [True, False, False, True]


def test_a_module_that_is_not_begun_says_what_is_missing() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            self.width = 3
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"cannot assign 'layer' before Module.__init__\(\) call"):
        Late()


def test_replacing_an_attribute_keeps_its_place_and_changes_its_kind() -> None:
    model: Any = nn.Linear(2, 2)
    model.weight = nn.Parameter(np.ones((2, 2), np.float32))
    assert [name for name, _ in model.named_parameters()] == ["weight", "bias"]
    model.weight = nn.Tanh()
    assert [name for name, _ in model.named_parameters()] == ["bias"] and list(model.children()) == [model.weight]
    del model.weight
    model.weight = 3
    assert model.weight == 3 and list(model.children()) == []


def test_a_module_shows_its_own_words_before_what_it_holds() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Residual(nn.Tanh(), scale=0.5)
            self.nothing: Any = None

        def extra_repr(self) -> str:
            return "a=1\nb=2"

    assert repr(Named()) == """Named(
  a=1
  b=2
  (inner): Residual(
    scale=0.5
    (module): Tanh()
  )
)"""


# ---- its place in the model
def failing(model: Any, x: Any) -> str:
    with pytest.raises(ShapeError) as raised:
        model(x)
    return str(raised.value).partition(":")[0]


def test_errors_name_the_path_in_the_outermost_model() -> None:
    body = nn.Sequential(nn.Tanh(), nn.Linear(9, 9))
    assert failing(body, X) == "in 1"
    model = nn.ModuleDict({"net": nn.Sequential(nn.Identity(), body)})
    assert failing(body, X) == failing(model["net"], X) == "in net.1.1"
    assert failing(model["net"][1:], X) == "in net.1.1"  # type: ignore[index]
    del model["net"]
    assert failing(body, X) == "in 1.1" or failing(body, X) == "in 1"
    assert failing(nn.Linear(9, 9), X) == "in Linear"


# ---- many of them
def test_a_thousand_modules_side_by_side_or_inside_each_other_are_no_trouble() -> None:
    def wide(n: int) -> Any:
        return nn.Sequential(*[nn.Tanh() for _ in range(n)])

    def nested(n: int) -> Any:
        model: nn.Module = nn.Identity()
        for _ in range(n):
            model = nn.Sequential(model)
        return model

    for make in (wide, nested):
        model = make(1000)
        assert len(list(model.modules())) == 1001
        assert model.state_dict() == {} and len(repr(model).splitlines()) >= 1000
        model.eval().apply(lambda m: m.train())
    with mg.no_grad():
        assert wide(1000)(X).shape == X.shape


def test_a_module_inside_itself_is_noticed() -> None:
    model: Any = nn.Sequential(nn.Tanh())
    model.again = model
    assert len(list(model.modules())) == 2
    with pytest.raises(ValueError, match="a module holds itself, as again"):
        model.state_dict()
