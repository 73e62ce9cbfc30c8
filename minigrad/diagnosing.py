"""`python -m minigrad diagnose FILE:FUNCTION`: what keeps the net of a file of yours from learning."""
from __future__ import annotations

import argparse
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from minigrad import diagnose, nn, optim, report
from minigrad.errors import MinigradError

#: Exit statuses.
HEALTHY: Final = 0
FAULTS: Final = 1
UNUSABLE: Final = 2
WANTED: Final = "(model, x, y, loss) or (model, x, y, loss, optimizer)"


class UnusableError(Exception):
    """A file or function that gives nothing to diagnose."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m minigrad diagnose", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Run FUNCTION of FILE, which returns {WANTED},\nand say what keeps the model from learning this batch.",
        epilog="exit status: 0 nothing to cure, 1 faults were found, 2 FILE or FUNCTION cannot be used")
    made.add_argument("target", metavar="FILE:FUNCTION", help="for example train.py:setup")
    made.add_argument("--out", type=Path, metavar="FILE.html", help="write the report as a page with pictures as well (needs matplotlib)")
    made.add_argument("--no-cures", action="store_true", help="say what is wrong, try no cures")
    return made


def split(target: str) -> tuple[Path, str]:
    """The file and the function. Raises UnusableError, which says what is missing."""
    name, colon, function = target.rpartition(":")
    if not colon or not name or not function:
        raise UnusableError(f"{target!r} is not FILE:FUNCTION, for example train.py:setup")
    if not Path(name).is_file():
        raise UnusableError(f"there is no file {name!r}")
    return Path(name), function


@contextmanager
def importable(path: Path) -> Iterator[None]:
    """Inside, what lies beside the file is imported as for `python FILE`, by the file and by what its model calls when it runs."""
    known = sys.modules.get(path.stem)
    directory = str(path.resolve().parent)
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        sys.path.remove(directory)
        sys.modules.pop(path.stem, None)
        if known is not None:
            sys.modules[path.stem] = known


def given(path: Path, function: str, target: str) -> tuple[Any, ...]:
    """What the function returns, with the optimizer or None. Raises UnusableError, which says what is wrong."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UnusableError(f"{str(path)!r} is no Python file")
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        call = getattr(module, function, None)
        if not callable(call):
            there = sorted(word for word, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == path.stem)
            raise UnusableError(f"{path} has no function {function!r}; it has {', '.join(there) or 'none'}")
        return checked(call(), target)
    except UnusableError:
        raise
    except (Exception, SystemExit) as error:
        raise UnusableError(f"{target} raised {type(error).__name__}: {error}{place(error, path)}") from error


def place(error: BaseException, path: Path) -> str:
    """The innermost line of this file that an error came through, or nothing."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() == path.resolve()]
    return f" (at {path.name}:{lines[-1]})" if lines else ""


def checked(result: Any, target: str) -> tuple[Any, ...]:
    """The five values. Raises UnusableError for anything else."""
    if not isinstance(result, tuple) or len(result) not in (4, 5):
        shown = f"{len(result)} values" if isinstance(result, tuple) else f"a {type(result).__name__}"
        raise UnusableError(f"{target} returned {shown}, expected {WANTED}")
    model, _, _, loss, *rest = result
    for what, value, good in (("model", model, isinstance(model, nn.Module)), ("loss", loss, callable(loss)),
                              ("optimizer", rest[0] if rest else None, not rest or rest[0] is None or isinstance(rest[0], optim.Optimizer))):
        if not good:
            raise UnusableError(f"{target} returned a {type(value).__name__} as {what}, expected {WANTED}")
    return (*result, None) if len(result) == 4 else result


def main(argv: Sequence[str]) -> int:
    """Print the diagnosis; returns the exit status."""
    options = parser().parse_args(argv)
    try:
        path, function = split(options.target)
        with importable(path):
            model, x, y, loss, optimizer = given(path, function, options.target)
            found = diagnose(model, x, y, loss, optimizer, cures=not options.no_cures)
    except UnusableError as error:
        print(f"diagnose: {error}", file=sys.stderr)
        return UNUSABLE
    except Exception as error:  # noqa: BLE001  the model is the user's, and a traceback would end with the status of a fault
        named = error if isinstance(error, MinigradError | TypeError | ValueError) else f"{type(error).__name__}: {error}"
        print(f"diagnose: {options.target}: the model cannot be run on this batch: {named}{place(error, path)}", file=sys.stderr)
        return UNUSABLE
    print(found)
    if options.out is not None:
        try:
            report(options.out, diagnosis=found, model=model, title=f"Diagnosis of {options.target}")
        except (ImportError, OSError, ValueError) as error:
            print(f"diagnose: --out: {error}", file=sys.stderr)
            return UNUSABLE
        print(f"\nwrote {options.out}")
    return HEALTHY if found.healthy else FAULTS
