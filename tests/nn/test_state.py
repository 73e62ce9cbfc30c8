"""Parameters and buffers by name: what a state holds, and what loading one refuses."""
from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import CaptureError, DeviceError, DtypeError, StateError

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


class Scaled(nn.Module):
    """A layer with buffers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(np.ones(3, np.float32))
        self.register_buffer("scale", mg.tensor(np.full(3, 2.0, np.float32)))
        self.register_buffer("count", mg.tensor(0))
        self.register_buffer("scratch", mg.tensor(np.zeros(2, np.float32)), persistent=False)
        self.register_buffer("nothing", None)

    scale: mg.Tensor

    def forward(self, x: Any) -> Any:
        return mg.tensor(x) * self.weight * self.scale if isinstance(x, np.ndarray) else x * self.weight * self.scale


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 3), Scaled(), nn.Linear(3, 2, bias=False))


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: value.array.tobytes() for name, value in model.state_dict().items()}


# ---- buffers
def test_buffers_are_state_and_no_parameters() -> None:
    model = net()
    assert [name for name, _ in model.named_buffers()] == ["1.scale", "1.count", "1.scratch"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.scale", "1.count", "2.weight"]
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.weight", "2.weight"]
    assert [name for name, _ in model.named_buffers(prefix="net", recurse=False)] == [] and len(list(model.buffers())) == 3
    assert model.get_buffer("1.scale") is model[1].scale


def test_a_tensor_assigned_to_a_buffers_name_is_the_buffer() -> None:
    layer: Any = Scaled()
    other = mg.tensor(np.full(3, 5.0, np.float32))
    layer.scale = other
    assert layer.get_buffer("scale") is other and list(layer.state_dict()) == ["weight", "scale", "count"]
    layer.scratch = other
    assert "scratch" not in layer.state_dict()
    layer.scale = None
    assert "scale" not in layer.state_dict()
    layer.scale = other
    assert list(layer.state_dict()) == ["weight", "scale", "count"]
    with pytest.raises(TypeError, match="cannot assign 'float' as buffer 'scale'"):
        layer.scale = 3.0
    del layer.scale
    assert list(dict(layer.named_buffers())) == ["count", "scratch"]


def test_a_captured_step_sees_another_buffer() -> None:
    layer: Any = Scaled()
    step = mg.capture(lambda x: layer(x))
    x = np.ones((1, 3), np.float32)
    for _ in range(3):
        assert step(mg.tensor(x)).tolist() == [[2, 2, 2]]
    layer.scale = mg.tensor(np.full(3, 7.0, np.float32))
    for _ in range(3):
        assert step(mg.tensor(x)).tolist() == [[7, 7, 7]]


@pytest.mark.parametrize(("register", "error", "text"), [
    (lambda m: m.register_buffer("a.b", None), KeyError, "without dots"),
    (lambda m: m.register_buffer("weight", None), KeyError, "attribute 'weight' already exists"),
    (lambda m: m.register_parameter("forward", None), KeyError, "attribute 'forward' already exists"),
    (lambda m: m.register_buffer("b", np.ones(3)), TypeError, "ndarray as buffer 'b'"),
    (lambda m: m.register_parameter("p", mg.ones(3)), TypeError, "Tensor as parameter 'p'"),
    (lambda m: m.add_module("m", "text"), TypeError, "str as module 'm'"),
    (lambda m: setattr(m, "weight", mg.ones(3)), TypeError, "cannot assign 'Tensor' as parameter 'weight'"),
])
def test_what_cannot_be_registered_is_refused(register: Callable[[Any], Any], error: type[Exception], text: str) -> None:
    layer = Scaled()
    before = list(layer.state_dict())
    with pytest.raises(error, match=text):
        register(layer)
    assert list(layer.state_dict()) == before


# ---- a state
def test_a_states_values_are_the_modules_memory_outside_the_graph() -> None:
    model = net()
    state = model.state_dict()
    snapshot = {name: value.clone() for name, value in state.items()}
    deep = copy.deepcopy(state)
    assert not any(value.requires_grad for value in state.values())
    with mg.no_grad():
        nn.init.zeros_(model.get_parameter("0.weight"))
    assert not state["0.weight"].array.any()
    assert snapshot["0.weight"].array.any() and deep["0.weight"].array.any()
    assert model.state_dict(keep_vars=True)["0.weight"] is model.get_parameter("0.weight")
    assert list(model.state_dict(prefix="net.")) == ["net." + name for name in state]


@pytest.mark.parametrize("convert", [lambda v: v, lambda v: v.numpy(), lambda v: v.array.astype(np.float64) if v.dtype.kind == "f" else v,
                                     lambda v: v.tolist()])
def test_a_state_goes_round_as_tensors_arrays_and_lists(convert: Callable[[Any], Any]) -> None:
    first, second = net(), net()
    nn.init.zeros_(first.get_buffer("1.scale"))
    places = [p.address for p in second.parameters()]
    found = second.load_state_dict({name: convert(value) for name, value in first.state_dict().items()})
    assert found == ([], []) and repr(found) == "<All keys matched successfully>"
    assert bits(first) == bits(second) and [p.address for p in second.parameters()] == places


@pytest.mark.parametrize(("spoil", "text"), [
    (lambda s: s.pop("2.weight"), 'Missing key.s. in state_dict: "2.weight".'),
    (lambda s: s.update(extra=np.ones(1), more=np.ones(1)), 'Unexpected key.s. in state_dict: "extra", "more".'),
    (lambda s: s.update({"2.weight": np.ones((5, 2))}), r"size mismatch for 2.weight: .* shape \(5, 2\), .* model is \(2, 3\)"),
    (lambda s: s.update({"2.weight": np.ones((2, 3), complex)}), "dtype mismatch for 2.weight: the saved value is complex128"),
    (lambda s: s.update({"1.count": np.array(0.5)}), "dtype mismatch for 1.count: the saved value is float64, the current model's int64"),
    (lambda s: s.update({"2.weight": np.full((2, 3), -1e39)}), "overflow for 2.weight: 1e.39"),
])
def test_a_state_that_does_not_fit_changes_nothing(spoil: Callable[[Any], Any], text: str) -> None:
    model = net()
    before = bits(model)
    state: dict[str, Any] = {name: value.array + 1 for name, value in model.state_dict().items()}
    spoil(state)
    with pytest.raises(StateError, match=text) as raised:
        model.load_state_dict(state)
    assert "Error(s) in loading state_dict for Sequential:" in str(raised.value)
    assert bits(model) == before


def test_all_that_does_not_fit_is_listed_at_once() -> None:
    state = net().state_dict()
    del state["0.bias"]
    state["2.weight"] = mg.ones(1)
    with pytest.raises(RuntimeError, match=r'(?s)Missing.*"0.bias".*size mismatch for 2.weight'):
        net().load_state_dict(state)


def test_without_strict_what_fits_is_loaded_and_the_rest_is_named() -> None:
    model, state = net(), net().state_dict()
    del state["0.bias"]
    state["other"] = mg.ones(1)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["0.bias"], ["other"])
    assert np.array_equal(model.get_parameter("0.weight").array, state["0.weight"].array)
    with pytest.raises(StateError, match="size mismatch"):
        model.load_state_dict({"0.weight": mg.ones(1)}, strict=False)


def test_infinities_and_nans_are_loaded_as_they_are() -> None:
    model = nn.Linear(2, 1)
    model.load_state_dict({"weight": np.array([[np.inf, np.nan]]), "bias": np.array([-np.inf])})
    assert np.array_equal(model.weight.array, np.array([[np.inf, np.nan]]), equal_nan=True)


def test_two_values_can_change_places() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    state = model.state_dict()
    before = {name: value.array.copy() for name, value in state.items()}
    model.load_state_dict({"0.weight": state["1.weight"], "1.weight": state["0.weight"]})
    assert np.array_equal(model.get_parameter("0.weight").array, before["1.weight"])
    assert np.array_equal(model.get_parameter("1.weight").array, before["0.weight"])


def test_a_tied_parameter_is_under_each_of_its_names() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert len(list(model.parameters())) == 3 and len(model.state_dict()) == 4


def test_loading_in_a_captured_step_is_refused() -> None:
    model = net()
    state = model.state_dict()

    @mg.capture
    def step(x: Any) -> Any:
        model.load_state_dict(state)
        return model(x)

    with pytest.raises(CaptureError, match="load between the calls"):
        step(X)


# ---- copies
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_memory_and_paths_of_its_own(copied: Callable[[Any], Any]) -> None:
    outer = nn.ModuleDict({"body": net()})
    model = outer["body"]
    twin = copied(model)
    before = bits(twin)
    assert before == bits(model) and np.array_equal(twin(X).array, model(X).array)
    for p in model.parameters():
        nn.init.zeros_(p)
    assert bits(twin) == before
    with pytest.raises(ValueError, match="in 0: "):
        twin(np.ones((2, 7), np.float32))
    with pytest.raises(ValueError, match=r"in body\.0: "):
        model(np.ones((2, 7), np.float32))


# ---- dtype and device
def test_another_dtype_keeps_the_objects_and_their_gradients() -> None:
    model = net()
    model(X).sum().backward()
    parameters = list(model.parameters())
    values = [p.array.astype(np.float64) for p in parameters]
    gradients = [p.grad.array.astype(np.float64) for p in parameters if p.grad is not None]
    assert model.double() is model
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert {p.dtype.name for p in parameters} == {"float64"} and model[1].scale.dtype == np.float64
    assert model.get_buffer("1.count").dtype == np.int64
    assert all(np.array_equal(p.array, v) for p, v in zip(parameters, values, strict=True))
    assert all(np.array_equal(p.grad.array, g) for p, g in zip(parameters, gradients, strict=True) if p.grad is not None)
    assert model(X.astype(np.float64)).dtype == np.float64
    assert model.float()(X).dtype == np.float32


@pytest.mark.parametrize("captured", [False, True])
def test_training_goes_on_in_another_dtype(captured: bool) -> None:
    found = []
    for before in (False, True):
        mg.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        if before:
            model.double()
        opt = optim.SGD(model.parameters(), lr=0.1)

        def train(x: Any, model: Any = model, opt: Any = opt) -> Any:
            opt.zero_grad()
            loss = (model(x) * model(x)).mean()
            loss.backward()
            opt.step()
            return loss

        step: Any = mg.capture(train) if captured else train
        if not before:
            for _ in range(3):
                step(X)
            mg.manual_seed(0)
            fresh = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
            model.load_state_dict(fresh.state_dict())
            model.double()
        losses = [step(X.astype(np.float64)).item() for _ in range(4)]
        found.append((losses, [p.array.tobytes() for p in model.parameters()]))
    assert found[0] == found[1]


def test_the_device_is_the_cpu() -> None:
    model, device = net(), mg.device("cuda" if mg.cuda.is_available() else "cpu")
    assert (str(device), device.type, device == mg.device("cpu:0"), device == "cpu", device != "cuda") == ("cpu", "cpu", True, True, True)
    assert model.to(device) is model and model.to("cpu", mg.float64).get_parameter("0.weight").dtype == mg.double
    t = mg.ones(2)
    assert t.to(device) is t and t.device == device and t.to(device, dtype=mg.double).dtype == mg.float64 and t.to(t.double()).dtype == mg.double
    assert model.to(t).get_parameter("0.weight").dtype == mg.float and t.to("cpu", copy=True) is not t
    assert hash(device) == hash(mg.device("cpu")) and repr(pickle.loads(pickle.dumps(device))) == "device(type='cpu')"
    assert mg.cuda.device_count() == 0
    for elsewhere in (lambda: mg.device("cuda"), lambda: model.to("cuda:0"), lambda: t.to("mps"), model.cuda, t.cuda,
                      lambda: nn.Linear(1, 1, device="cuda")):
        with pytest.raises(DeviceError, match="minigrad computes on the CPU"):
            elsewhere()
    with pytest.raises(DtypeError, match="float32 or float64, not int64"):
        model.to(mg.long)


def test_dtypes_have_pytorchs_short_names() -> None:
    assert (mg.float, mg.double, mg.long, mg.int, mg.bool) == (mg.float32, mg.float64, mg.int64, mg.int32, np.dtype(bool))
    assert mg.is_tensor(mg.ones(1)) and not mg.is_tensor(np.ones(1))


def test_what_was_loaded_stays_when_the_next_step_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    other = nn.BatchNorm1d(3)
    other(np.random.default_rng(0).normal(size=(9, 3)))
    opt = mg.optim.SGD(model.parameters(), lr=0.1)
    model(np.ones((4, 2)))  # moves the running statistics, which a refused step would put back
    loaded = {f"1.{name}": value.clone() for name, value in other.state_dict().items()}
    model.load_state_dict(loaded, strict=False)
    opt.zero_grad()
    (model(np.full((4, 2), np.nan)) ** 2).sum().backward()
    with pytest.raises(mg.errors.NonFiniteError):
        opt.step()
    assert all(mg.equal(model.state_dict()[name], value) for name, value in loaded.items())
