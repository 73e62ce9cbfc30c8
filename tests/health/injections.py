"""Random nets into which a value that is not finite is put: where it was put is what the error has to name."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import config, nn, optim
from minigrad.errors import NonFiniteError

ACTIVATIONS: Final = (nn.Tanh, nn.ReLU, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus)
OPTIMISERS: Final[tuple[Any, ...]] = (lambda p: optim.SGD(p, 0.01), lambda p: optim.SGD(p, 0.01, momentum=0.9), optim.Adam, optim.AdamW,
                                      optim.RMSprop, optim.Adagrad)
#: What a site does with h and a, the value of a that does no harm, and the one that does: in float32, in float64.
SITES: Final[dict[str, tuple[Any, float, tuple[float, float]]]] = {
    "sqrt": (lambda h, a: h * mg.sqrt(h * 0.0 + a), 1.0, (-1.0, -1.0)),  # NaN
    "exp": (lambda h, a: h * mg.exp(h * 0.0 + a), 0.0, (1e3, 1e3)),  # inf
    "log": (lambda h, a: h * mg.log(h * 0.0 + a), 2.0, (0.0, 0.0)),  # -inf
    "square": (lambda h, a: h * mg.square(h * 0.0 + a), 1.0, (1e30, 1e200)),  # overflow
    "div": (lambda h, a: h * (1.0 / (h * 0.0 + a)), 1.0, (0.0, 0.0)),  # inf
    "backward of sqrt": (lambda h, a: h * mg.sqrt(h * 0.0 + a), 1.0, (0.0, 0.0)),
}
WAYS: Final = ("call", "repeat", "scan", "scan by index")
VALUES: Final = (np.nan, np.inf, -np.inf)


class Site(nn.Module):
    """The identity, or about that, until its number is the harmful one."""

    def __init__(self, kind: str, place: int) -> None:
        super().__init__()
        self.function, self.place = SITES[kind][0], place

    def forward(self, h: Any, numbers: Any) -> Any:
        return self.function(h, numbers[:, self.place:self.place + 1])


class Net(nn.Module):
    """Blocks of a linear layer, a site, and perhaps a norm, an activation, dropout and a shortcut."""

    def __init__(self, rng: np.random.Generator, kinds: list[str], classes: int) -> None:
        super().__init__()
        width = int(rng.integers(2, 9))
        self.first = nn.Linear(3, width)
        self.blocks = nn.ModuleList()
        self.sites = nn.ModuleList([Site(kind, i) for i, kind in enumerate(kinds)])
        self.shortcuts = []
        for _ in kinds:
            norms: list[list[Any]] = [[], [nn.BatchNorm1d(width)], [nn.LayerNorm(width)]]
            norm = norms[rng.integers(3)]
            dropout: list[Any] = [nn.Dropout(0.3)] if rng.random() < 0.3 else []
            self.blocks.append(nn.Sequential(nn.Linear(width, width), *norm, ACTIVATIONS[rng.integers(len(ACTIVATIONS))](), *dropout))
            self.shortcuts.append(bool(rng.random() < 0.5))
        self.last = nn.Linear(width, classes)

    def forward(self, x: Any, numbers: Any) -> Any:
        h = self.first(x)
        for block, site, shortcut in zip(self.blocks, self.sites, self.shortcuts, strict=True):
            inner = site(block(h), numbers)
            h = h + inner if shortcut else inner
        return self.last(h)


@dataclass
class Outcome:
    """What came of one injection."""

    what: str
    caught: bool = False
    unchanged: bool = False
    named: bool = False
    error: Any = field(default=None, repr=False)


class Injection:
    """One net, one place, one value, one way to run; all by the seed."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = np.random.default_rng([77, seed])
        self.seed, self.captured = seed, bool(seed % 2)
        self.way = WAYS[rng.integers(len(WAYS))] if self.captured else "eager"
        self.kind = ("op", "op", "op", "parameter", "input")[rng.integers(5)]
        self.dtype = np.dtype((np.float32, np.float64)[rng.integers(2)])
        self.kinds = [list(SITES)[rng.integers(len(SITES))] for _ in range(rng.integers(1, 6))]
        self.place = int(rng.integers(len(self.kinds)))
        self.value = VALUES[rng.integers(3)] if self.kind == "input" else np.nan if self.kind == "parameter" else 0.0
        self.clip = bool(rng.random() < 0.5)
        self.steps, self.good = int(rng.integers(2, 7)), int(rng.integers(2))
        self.bad = int(rng.integers(self.steps)) if self.way.startswith("scan") else 0
        self.shape = int(rng.integers(1 << 30))
        self.classified = bool(rng.random() < 0.5)
        rows = 5
        self.x = rng.normal(size=(self.steps, rows, 3)).astype(self.dtype)
        self.y = rng.integers(0, 4, (self.steps, rows)) if self.classified else rng.normal(size=(self.steps, rows, 4)).astype(self.dtype)
        self.numbers = np.tile(np.array([SITES[kind][1] for kind in self.kinds], self.dtype), (self.steps, rows, 1))

    def made(self) -> tuple[Any, Any, Any]:
        """The net after a few good steps, its optimiser and its step."""
        mg.manual_seed(self.seed)
        rng = np.random.default_rng(self.shape)
        net = Net(rng, self.kinds, 4).to(self.dtype)
        opt = OPTIMISERS[rng.integers(len(OPTIMISERS))](net.parameters())

        def step(x: Any, y: Any, numbers: Any) -> Any:
            opt.zero_grad()
            out = net(x, numbers)
            loss = F.cross_entropy(out, y) if self.classified else F.mse_loss(out, y)
            loss.backward()
            if self.clip:
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            opt.step()
            return loss

        run = mg.capture(step) if self.captured else step
        for _ in range(3 if self.captured else self.good):
            run(self.x[0], self.y[0], self.numbers[0])
        return net, opt, run

    def state(self, net: Any, opt: Any) -> list[bytes]:
        """Parameters, running statistics, moments, counts and the random state."""
        moments = [v for one in opt.state_dict()["state"].values() for v in one.values()]
        return [*[np.asarray(v).tobytes() for v in net.state_dict().values()], *[np.asarray(v).tobytes() for v in moments],
                config.random_state.tobytes()]

    def outcome(self) -> Outcome:
        """Put it in, run, and compare."""
        net, opt, run = self.made()
        x, y, numbers = self.x.copy(), self.y.copy(), self.numbers.copy()
        parameter = ""
        if self.kind == "op":
            kind = self.kinds[self.place]
            # A row that a ReLU behind it keeps from the loss would do no harm on the way back.
            rows = slice(None) if kind.startswith("backward") else int(self.rng.integers(5))
            numbers[self.bad, rows, self.place] = SITES[kind][2][int(self.dtype == np.float64)]
        elif self.kind == "input":
            x[self.bad, self.rng.integers(5), self.rng.integers(3)] = self.value
        else:
            self.bad = 0
            names = dict(net.named_parameters())
            parameter = list(names)[self.rng.integers(len(names))]
            with mg.no_grad():
                flat = names[parameter].reshape(-1)
                flat[int(self.rng.integers(flat.shape[0]))] = self.value
        before = self.state(net, opt)
        if self.bad:  # the steps before it count
            other = self.made()
            for s in range(self.bad):
                other[2](x[s], y[s], numbers[s])
            before = self.state(*other[:2])
            mg.manual_seed(self.seed)
            net, opt, run = self.made()
        what = f"{self.seed}: {self.kind} {self.kinds[self.place] if self.kind == 'op' else parameter or self.value} {self.way} {self.dtype.name}"
        outcome = Outcome(what)
        try:
            self.run(run, x, y, numbers)
        except NonFiniteError as error:
            outcome.caught, outcome.error = True, error
            outcome.named = self.names(error, parameter)
        outcome.unchanged = self.state(net, opt) == before
        return outcome

    def run(self, run: Any, x: Any, y: Any, numbers: Any) -> None:
        """The bad step, the good ones before it, and those that would come after."""
        if self.way == "scan":
            run.scan(x, y, numbers)
        elif self.way == "scan by index":
            table = self.rng.permutation(self.steps * 5).reshape(self.steps, 5)
            back = np.argsort(table.ravel())
            run.scan(*[a.reshape(-1, *a.shape[2:])[back] for a in (x, y, numbers)], index=table)
        elif self.way == "repeat":
            run.repeat(self.steps, x[0], y[0], numbers[0])
        else:
            run(x[0], y[0], numbers[0])

    def names(self, error: Any, parameter: str) -> bool:
        """Whether the error names what was put in."""
        if self.kind == "parameter":
            return bool(error.parameter == parameter)
        if self.kind == "input":
            given = error.argument == 0 if self.captured else error.input == "x"
            return bool(given and (error.op, error.module) == ("linear", "first"))
        kind = self.kinds[self.place]
        wanted = (kind.removeprefix("backward of "), f"sites.{self.place}", kind.startswith("backward"))
        line = f"injections.py:{SITES[kind][0].__code__.co_firstlineno}"
        return (error.op, error.module, error.backward) == wanted and (not self.captured or error.line == line)
