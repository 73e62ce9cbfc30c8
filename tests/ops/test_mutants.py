"""Every operand, number and call of every rule is wrong once, and a check finds it; what no check can find is listed with the reason."""
from __future__ import annotations

from collections.abc import Iterable

import pytest

from minigrad.ops.op import Op, registry
from tests.ops import mutants
from tests.ops.mutants import LIBRARY, Mutant, Rule
from tests.ops.test_every_op import OPS

RULES = mutants.rules()
MODULES = sorted({rule.functions[0].__module__.removeprefix("minigrad.ops.") for rule in RULES})

#: Mutants that compute the same, and why. By rule and its text's digest: when the rule changes, its proofs have to be given anew.
EQUIVALENT: dict[tuple[str, str], dict[str, str]] = {
    ("shape.inverse()", "e94dfbc3"): {
        "2: return sorted(range(rank), key=lambda i: axes[i] % rank)": "the axes go on as a list, which is as good as a tuple",
    },
    ("reduce.with_axes()", "fd9f29de"): {
        "2: return reshape(reduced, shape=shape)": "a reshape to the shape it has",
        "2: return reduced if reduced.spec.shape == axis else reshape(reduced, shape=shape)": "a reshape to the shape it has",
        "2: return reduced if reduced.spec.shape == reduced else reshape(reduced, shape=shape)": "a reshape to the shape it has",
        "2: return reduced if reduced.spec.shape == spec else reshape(reduced, shape=shape)": "a reshape to the shape it has",
    },
    ("filled.x", "a42db318"): {
        "1: return LIBRARY.neg(filled(g, value=0.0))": "zeros, whatever their sign and factor",
        "1: return LIBRARY.scale(filled(g, value=0.0), by=2.0)": "zeros, whatever their sign and factor",
    },
    ("sign.x", "dc6e6d6a"): {
        "1: return LIBRARY.neg(filled(g, value=0.0))": "zeros, whatever their sign and factor",
        "1: return LIBRARY.scale(filled(g, value=0.0), by=2.0)": "zeros, whatever their sign and factor",
    },
    ("floor_divide.x", "a42db318"): {
        "1: return LIBRARY.neg(filled(g, value=0.0))": "zeros, whatever their sign and factor",
        "1: return LIBRARY.scale(filled(g, value=0.0), by=2.0)": "zeros, whatever their sign and factor",
    },
    ("floor_divide.y", "a42db318"): {
        "1: return LIBRARY.neg(filled(g, value=0.0))": "zeros, whatever their sign and factor",
        "1: return LIBRARY.scale(filled(g, value=0.0), by=2.0)": "zeros, whatever their sign and factor",
    },
    ("power_by.x", "425da878"): {
        "1: return mul(g, scale(power(x, exponent - 1), by=exponent)) if exponent else filled(x, value=0.0)": "x and g have one shape and dtype",
    },
    ("powers.power()", "d3c4a24a"): {
        "4: short = {2.0: square, 0.5: sqrt, -1.0: reciprocal, -0.5: rsqrt}.get(exponent)": "a whole number is equal to the float, also as a key",
        "7: return whole_power(x, exponent=number) if number.is_integer() and 1 <= number <= MOST_PRODUCTS else power_by(x, exponent=exponent)":
            "a whole number is equal to the float, also as a key",
        "7: return whole_power(x, exponent=exponent) if number.is_integer() and 1 <= number <= MOST_PRODUCTS else power_by(x, exponent=number)":
            "a whole number is equal to the float, also as a key",
        "7: return whole_power(x, exponent=number) if number.is_integer() and 1 <= exponent <= MOST_PRODUCTS else power_by(x, exponent=number)":
            "a whole number is equal to the float, also as a key",
    },
    ("linear.bias", "8910ecf8"): {
        "1: return g": "the engine sums a gradient over what was repeated",
    },
    ("cat2.x0", "02c656f1"): {
        "2: return narrow(g, at, sum((spec.shape[at] for spec in specs[:i])), specs[i].shape[axis])":
            "a negative axis counts from the back to the same place",
        "2: return narrow(g, at, sum((spec.shape[axis] for spec in specs[:i])), specs[i].shape[at])":
            "a negative axis counts from the back to the same place",
    },
    ("joining.narrow()", "aebc0fdf"): {
        "2: if False:": "the whole is a part as any other, copied",
        "2: if shape == shape[axis]:": "the whole is a part as any other, copied",
        "6: if False:": "a copy in place of a view",
        "6: if shape[:axis] == 1:": "a copy in place of a view",
        "6: if math.prod(shape[:axis]) == -1:": "a copy in place of a view",
        "6: if math.prod(shape[:axis]) == 0:": "a copy in place of a view",
        "3: return x": "the same numbers and the same gradient; that it is a Tensor of its own is seen in tests/test_random_graphs.py",
        "6: if math.prod(wanted[:axis]) == 1:": "the sizes before the axis are those of x",
    },
    ("cumsum.x", "ad246188"): {
        "1: back = cumsum(g, axis=axis, reverse=not reverse)": "g is one line here, its only axis is 0",
        "1: back = cumsum(g, axis=0 if reverse is None else axis, reverse=not reverse)": "g is one line here, its only axis is 0",
        "2: return reshape(back, shape=x_spec.shape)": "a reshape to the shape it has",
    },
    ("extrema._shared()", "121e9f3c"): {
        "2: return mul(ties, div(with_axes(g, ties, axis), sum(ties, axis=axis, keepdims=True)))": "of the spec only the shape is asked, which x has",
    },
    ("place_rows.x", "ef3ad912"): {
        "4: g = clear_strided(g, start=skip * inner, shape=(math.prod(shape[:at]), inner), strides=(shape[axis] * inner, 1))":
            "a negative axis counts from the back to the same place",
        "4: g = clear_strided(g, start=skip * inner, shape=(math.prod(shape[:axis]), inner), strides=(shape[at] * inner, 1))":
            "a negative axis counts from the back to the same place",
    },
    ("put_rows.value", "74041afb"): {
        "2: last = is_last(index, size=x_spec.shape[at], dtype=index.spec.dtype)": "mul takes the dtype of the floats beside whole numbers",
        "2: last = is_last(index, size=x_spec.shape[axis], dtype=g.spec.dtype)": "a negative axis counts from the back to the same place",
        "4: return mul(take_rows(g, index, axis=at), expand(lined, shape=value_spec.shape))":
            "a negative axis counts from the back to the same place",
        "3: lined = reshape(last, shape=(*last.shape, *(1,) * (len(x_spec.shape) - at - 1)))": "the last places have the shape of the index",
        "4: return mul(take_rows(g, index, axis=axis), lined)": "mul repeats its operands",
        "4: return mul(take_rows(g, index, axis=axis), expand(lined, shape=lined.shape))": "mul repeats its operands",
    },
    ("prod.x", "af4076a7"): {
        "2: return LIBRARY.neg(repeated(g, x_spec, axis))": "nothing is in it",
        "2: return LIBRARY.scale(repeated(g, x_spec, axis), by=2.0)": "nothing is in it",
    },
    ("statistics._others()", "0b35201c"): {
        "4: if True:": "with one axis the inner call only reshapes g",
        "4: if len(axes) >= 1:": "with one axis the inner call only reshapes g",
        "4: if len(axes) > -1:": "with one axis the inner call only reshapes g",
        "4: if len(axes) > 0:": "with one axis the inner call only reshapes g",
        "4: if len(shape) > 1:": "with one axis the inner call only reshapes g",
        "8: if False:": "one outer place, or one row: the transposes move nothing",
        "8: if axes == 1:": "one outer place, or one row: the transposes move nothing",
        "8: if n == 1:": "one outer place, or one row: the transposes move nothing",
        "8: if shape == 1:": "one outer place, or one row: the transposes move nothing",
        "8: if outer == -1:": "one outer place, or one row: the transposes move nothing",
        "8: if outer == 0:": "one outer place, or one row: the transposes move nothing",
        "3: return g": "what is made of g is reshaped before it is used",
        "9: return _tree(reshape(g, shape=(1, inner)), reshape(x, shape=(n, inner)))": "the caller reshapes what it gets",
        "12: return transpose(reshape(_tree(upstream, lines), shape=(n * inner, outer)))": "the caller reshapes what it gets",
        "9: return reshape(_tree(reshape(g, shape=(-1, inner)), reshape(x, shape=(n, inner))), shape=shape)":
            "a size of -1 is found from the rest: 1",
        "11: upstream = reshape(transpose(reshape(g, shape=(outer, inner))), shape=(-1, inner * outer))": "a size of -1 is found from the rest: 1",
    },
    ("statistics._tree()", "a65884d6"): {
        "10: outside = put_range(place_range(to_left, start=0, shape=(n, m)), to_right, start=outside.spec.size)":
            "what is outside the left half has its size",
        "10: outside = put_range(place_range(to_left, start=0, shape=(n, m)), to_right, start=to_left.spec.size)":
            "what is outside the left half has its size",
        "9: to_left, to_right = (_times(outside, right, n // 2), mul(_head(outside, n // 2), _head(level, n // 2)))":
            "the upper rows of the upper rows are those of the whole",
    },
    ("statistics._head()", "c41e80e7"): {
        "1: return take_range(x, start=0, shape=(rows, x.spec.shape[1]))": "all rows are a run as any other",
        "1: return x if x.spec.shape[0] == rows else take_range(x, start=0, shape=(rows, x.spec.shape[-1]))": "x has two axes",
    },
    ("statistics._times()", "5d1f2b8c"): {
        "2: return put_range(x, product, start=0)": "all rows put in place are the product",
    },
    ("var.x", "56c487f9"): {
        "2: return mul(scale(distance, by=2 * by), with_axes(g, distance, axis))": "of the spec only the shape is asked, which the distances have",
    },
    ("std.x", "3a03c9ba"): {
        "1: distance, by = _distances(x, x_spec, axis, correction, out.spec.size)": "g and out have one shape",
        "2: return mul(scale(distance, by=by), with_axes(div_or_zero(g, out), distance, axis))":
            "of the spec only the shape is asked, which the distances have",
    },
    ("vector_norm.x", "c6eb4dc3"): {
        "2: if False:": "the general rule gives the same for p = 2, a little slower",
        "2: if axis == 2:": "the general rule gives the same for p = 2, a little slower",
        "6: if False:": "the general rule gives the same for p = 1: the power 0 of anything is 1",
        "6: if p == 2:": "the general rule gives the same for p = 1: the power 0 of anything is 1",
        "6: if p == 0:": "the general rule gives the same for p = 1: the power 0 of anything is 1",
        "5: return LIBRARY.neg(repeated(scale(g, by=0.0), x_spec, axis))": "zeros, whatever their sign and factor",
        "5: return LIBRARY.scale(repeated(scale(g, by=0.0), x_spec, axis), by=2.0)": "zeros, whatever their sign and factor",
        "5: return repeated(scale(out, by=0.0), x_spec, axis)": "zeros, whatever their sign and factor",
        "5: return repeated(scale(total, by=0.0), x_spec, axis)": "zeros, whatever their sign and factor",
        "5: return repeated(scale(upstream, by=0.0), x_spec, axis)": "zeros, whatever their sign and factor",
    },
    ("batch_norm_grad.x", "af1a8702"): {
        "1: rank = len(g.spec.shape)": "g, grad and x have one shape",
        "1: rank = len(grad.spec.shape)": "g, grad and x have one shape",
        "3: return curved(mul(grad, _per_channel(weight, rank)), g, x, normal, _channels(rank), eps)": "g, grad and x have one shape",
    },
    ("standard.zeros()", "fe9e831e"): {
        "1: return LIBRARY.neg(scale(x, by=0.0))": "zeros, whatever their sign and factor",
        "1: return LIBRARY.scale(scale(x, by=0.0), by=2.0)": "zeros, whatever their sign and factor",
    },
    ("standard.curved()", "ee10a6c6"): {
        "4: h, u, distance = (sub(h, mean(h)), sub(u, mean(u)), sub(mean(x), x))": "the distance is squared",
        "7: return neg(div(inner, add(mean(mul(x, distance)), eps)))":
            "the distances add up to 0, so that the mean of x times them is that of their squares",
        "7: return neg(div(inner, add(mean(mul(distance, x)), eps)))":
            "the distances add up to 0, so that the mean of x times them is that of their squares",
    },
    ("normalize._per_channel()", "69b7ae7b"): {
        "1: return x if rank == 2 else reshape(x, shape=(*x.spec.shape, -1))": "a size of -1 is found from the rest: 1",
    },
    ("batch_norm_grad.weight", "47570604"): {
        "1: return total(mul(g, batch_norm_grad(grad, x, ones(weight), eps=eps)), axis=_channels(len(g.spec.shape)))": "g, grad and x have one shape",
        "1: return total(mul(g, batch_norm_grad(grad, x, ones(weight), eps=eps)), axis=_channels(len(grad.spec.shape)))":
            "g, grad and x have one shape",
    },
    ("batch_moments.x", "696c5263"): {
        "5: return add(mul(distance, scale(second, by=2 / (numbers - 1) if numbers > 1 else math.nan)), scale(first, by=1 / max(2, numbers)))":
            "with one number for each channel NaN is added",
    },
    ("batch_norm_by.x", "ef26747b"): {
        "1: return batch_norm_by(g, zeros(mean), variance, weight, zeros(variance), eps=eps)": "mean, variance and weight have one shape",
        "1: return batch_norm_by(g, zeros(mean), variance, weight, zeros(weight), eps=eps)": "mean, variance and weight have one shape",
        "1: return batch_norm_by(g, zeros(variance), variance, weight, zeros(mean), eps=eps)": "mean, variance and weight have one shape",
        "1: return batch_norm_by(g, zeros(weight), variance, weight, zeros(mean), eps=eps)": "mean, variance and weight have one shape",
    },
    ("batch_norm_by.mean", "b845dc89"): {
        "1: none = zeros(variance)": "mean, variance and weight have one shape",
        "1: none = zeros(weight)": "mean, variance and weight have one shape",
    },
    ("batch_norm_by.variance", "ffae7669"): {
        "1: moved = total(mul(g, batch_norm_by(x, mean, variance, weight, zeros(mean), eps=eps)), axis=_channels(len(x.spec.shape)))":
            "g and x have one shape",
        "1: moved = total(mul(g, batch_norm_by(x, mean, variance, weight, zeros(variance), eps=eps)), axis=_channels(len(g.spec.shape)))":
            "mean, variance and weight have one shape",
        "1: moved = total(mul(g, batch_norm_by(x, mean, variance, weight, zeros(weight), eps=eps)), axis=_channels(len(g.spec.shape)))":
            "mean, variance and weight have one shape",
    },
    ("batch_norm_by.weight", "28e428ee"): {
        "1: return total(mul(g, batch_norm_by(x, mean, variance, ones(mean), zeros(mean), eps=eps)), axis=_channels(len(x.spec.shape)))":
            "g and x have one shape",
        "1: return total(mul(g, batch_norm_by(x, mean, variance, ones(mean), zeros(variance), eps=eps)), axis=_channels(len(g.spec.shape)))":
            "mean, variance and weight have one shape",
        "1: return total(mul(g, batch_norm_by(x, mean, variance, ones(variance), zeros(mean), eps=eps)), axis=_channels(len(g.spec.shape)))":
            "mean, variance and weight have one shape",
    },
    ("layer_norm_grad.x", "e1623845"): {
        "1: rank, inner = (len(g.spec.shape), len(weight.spec.shape))": "g, grad and x have one shape",
        "1: rank, inner = (len(grad.spec.shape), len(weight.spec.shape))": "g, grad and x have one shape",
        "3: return curved(mul(grad, weight), g, x, normal, tuple(range(rank - inner, rank)), eps)": "curved is symmetric in its first two",
    },
    ("mse_grad.grad", "a254db84"): {
        "1: return mul(g, mse_grad(1.0, x, target))": "the engine sums a gradient over what was repeated",
    },
    ("softmax_cross_entropy_grad.grad", "60268a47"): {
        "1: return mul(g, softmax_cross_entropy_grad(1.0, x, labels, ignore_index=ignore_index))":
            "the engine sums a gradient over what was repeated",
    },
    ("softmax_cross_entropy_grad.x", "fe109896"): {
        "1: kept = cast(label_weights(labels, 2.0, ignore_index=ignore_index), dtype=x_spec.dtype)": "divided by their own sum",
        "1: kept = cast(label_weights(labels, -1.0, ignore_index=ignore_index), dtype=x_spec.dtype)": "divided by their own sum",
        "2: share = reshape(mul(grad, div(kept, sum(kept))), shape=(x_spec.shape[0], -1))": "a size of -1 is found from the rest: 1",
        "2: share = reshape(mul(grad, div(kept, sum(kept))), shape=(kept.shape[0], 1))": "a label for each row",
    },
    ("huber_grad.d", "6b8b4967"): {
        "1: return scale(hardtanh_grad(mul(g, grad), d, min_val=-delta, max_val=delta), by=slope / delta if delta else 1.0)":
            "nothing is between -0 and 0, so that 0 is multiplied",
    },
    ("binary_cross_entropy_grad.p", "a08aa726"): {
        "1: rest = sub(p, 1.0)": "the rest is squared",
    },
    ("residual.branch", "7fb4f9f7"): {
        "1: return elementwise.scale(g, by=scale)": "times 1 is g to the bit",
    },
}


def report(rules: Iterable[Rule], equivalent: dict[tuple[str, str], dict[str, str]]) -> list[str]:
    """Mutants that live and are not known to be equivalent, and entries of the table that are not of a living mutant."""
    lines: list[str] = []
    for rule in rules:
        known = equivalent.get((rule.label, rule.digest()), {})
        living = {mutant.lines for mutant in mutants.mutants(rule) if mutants.survives(mutant)}
        lines += [f"{rule.label} {rule.digest()}: no check finds `{line}`" for line in sorted(living - known.keys())]
        lines += [f"{rule.label} {rule.digest()}: `{line}` is listed, but is found or is no mutant" for line in sorted(known.keys() - living)]
    return lines


def rule_of(op: Op) -> Rule:
    """The first rule of an op."""
    return next(rule for rule in RULES if rule.label == f"{op.name}.{op.inputs[0]}")


def test_every_rule_is_among_those_mutated() -> None:
    functions = {vjp.function for op in OPS for vjp in op.vjps if vjp is not None}
    assert functions <= {function for rule in RULES for function in rule.functions}


def test_the_table_names_rules_as_they_are() -> None:
    assert EQUIVALENT.keys() <= {(rule.label, rule.digest()) for rule in RULES}


def test_points_are_of_ops_that_exist() -> None:
    assert mutants.POINTS.keys() <= registry.keys()


@pytest.mark.parametrize("module", MODULES)
def test_the_checks_pass_without_a_mistake(module: str) -> None:
    of_module = [rule for rule in RULES if rule.functions[0].__module__ == f"minigrad.ops.{module}"]
    assert {rule.label: found for rule in of_module if (found := mutants.killer(rule)) is not None} == {}


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_every_mistake_is_found(module: str) -> None:
    of_module = [rule for rule in RULES if rule.functions[0].__module__ == f"minigrad.ops.{module}"]
    assert report(of_module, EQUIVALENT) == []


# ---- the machinery itself -----------------------------------------------------------------------------------------------------------
def test_a_rule_has_a_mutant_for_each_operand_number_and_call() -> None:
    rule = rule_of(registry["sigmoid_grad"])  # sigmoid_grad(g, y)
    made = {mutant.lines.removeprefix("1: return ") for mutant in mutants.mutants(rule)}
    others = {f"LIBRARY.{name}(g, y)" for name in ("relu_grad", "tanh_grad", "logsigmoid_grad")}
    assert made == {"sigmoid_grad(y, g)", "sigmoid_grad(y, y)", "sigmoid_grad(g, g)", "g", "y", *others,
                    "LIBRARY.neg(sigmoid_grad(g, y))", "LIBRARY.scale(sigmoid_grad(g, y), by=2.0)"}
    lines = [mutant.lines for mutant in mutants.mutants(rule_of(registry["square"]))]  # scale(mul(g, x), by=2.0)
    numbers = [line for line in lines if "mul(g, x), by=" in line and "LIBRARY" not in line]
    assert numbers == [f"1: return scale(mul(g, x), by={by})" for by in (3.0, -2.0, 0.0)]


def test_a_mutant_runs_only_while_it_is_installed() -> None:
    rule = rule_of(registry["mul"])
    mutant = next(mutant for mutant in mutants.mutants(rule) if mutant.lines == "1: return g")
    before = rule.functions[0].__code__
    with mutant.installed():
        assert mutants.killer(rule) == "first: mul"
    assert rule.functions[0].__code__ is before and mutants.killer(rule) is None


def test_a_mistake_that_no_check_finds_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = rule_of(registry["mul"])
    monkeypatch.setattr(mutants, "killer", lambda rule: None)
    lines = report([rule], {})
    assert len(lines) == len(list(mutants.mutants(rule))) and f"mul.x {rule.digest()}: no check finds `1: return g`" in lines


def test_an_entry_for_a_mistake_that_is_found_is_reported() -> None:
    rule = rule_of(registry["mul"])
    assert report([rule], {("mul.x", rule.digest()): {"1: return g": "is it?"}}) == [
        f"mul.x {rule.digest()}: `1: return g` is listed, but is found or is no mutant"]


def test_a_mutant_that_never_ends_is_stopped() -> None:
    def rule(g: object, y: object) -> object:
        while True:
            g = LIBRARY.mul(g, y)

    endless = Mutant(rule_of(registry["mul"]), "while True", rule.__code__)
    with endless.installed():
        assert mutants.killer(endless.rule) == "first: mul: EndlessError"


def test_an_equivalent_change_survives() -> None:
    def rule(g: object, y: object) -> object:
        return LIBRARY.mul(y, g)

    with Mutant(rule_of(registry["mul"]), "", rule.__code__).installed():
        assert mutants.killer(rule_of(registry["mul"])) is None
