"""Where a user's classifier comes from: a Python function or a TorchScript file.

Whatever goes wrong in the user's code becomes one line; nothing is unpickled.
"""

import importlib
import importlib.util
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SURELY = 8  # images whose logits are not all between 0 and 1 by chance


def one_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says; of TorchScript's the last one."""
    lines = str(error).strip().splitlines() or [""]
    said = lines[-1 if "TorchScript interpreter" in lines[0] else 0].strip()
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def call_function(source: str) -> tuple[Any, str]:
    """Import `file.py:function` or `package.module:function` and call it without arguments.

    Returns:
        What it returned, and the source with the file's whole path.

    Raises:
        FileNotFoundError: the source is no such pair, or there is no such file.
        ValueError: the user's code fails.
    """
    module_name, _, function = source.rpartition(":")
    if not module_name or not function.isidentifier():
        raise FileNotFoundError(
            f"no classifier at {source}; give file.py:function, package.module:function, a "
            "TorchScript file or a directory of `stylex train-classifier`"
        )
    path = Path(module_name)
    if path.suffix != ".py":
        with _importable(Path.cwd()):
            return _call(source, module_name, function), source
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} (of {source}); give the path of the Python file")
    with _importable(path.resolve().parent):
        return _call(source, path, function), f"{path.resolve()}:{function}"


def _call(source: str, where: Path | str, function: str) -> Any:
    """Import the user's module and call the function; whatever it raises becomes one line."""
    try:
        module = importlib.import_module(where) if isinstance(where, str) else _import_file(where)
    except Exception as error:
        raise ValueError(f"{source} does not import: {one_line(error)}; mend it") from error
    if not callable(getattr(module, function, None)):
        raise ValueError(f"{source}: there is no function {function}; give the name of one")
    try:
        return getattr(module, function)()
    except Exception as error:
        line = one_line(error)
        raise ValueError(f"{source} failed: {line}; call it by itself to see more") from error


def _import_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"stylex_user_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and torch.jit look their module up
    spec.loader.exec_module(module)
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Within the block the modules of a folder can be imported, as for a script in it.

    Afterwards they are forgotten: another folder may have modules of these names.
    """
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            top = folder / name.partition(".")[0]  # not what an environment below it holds
            if file and (Path(file) == top.with_suffix(".py") or Path(file).is_relative_to(top)):
                del sys.modules[name]


def complaint(output: Any, count: int, classes: int, binary: bool) -> str:
    """What is wrong with a classifier's first output, or nothing."""
    wanted = f"[{count}, 1] or [{count}]" if binary else f"[{count}, {classes}]"
    if not isinstance(output, Tensor):
        return f"gave {type(output).__name__}, wanted a tensor {wanted}; return the logits alone"
    if not output.is_floating_point():
        return f"gave {output.dtype}, wanted floating-point logits; return them before any argmax"
    shapes = [(count, 1), (count,)] if binary else [(count, classes)]
    if tuple(output.shape) not in shapes:
        advice = "name each class, or set binary=True for one logit"
        return f"gave shape {list(output.shape)}, wanted {wanted}; {advice}"
    if not output.isfinite().all():
        return "gave NaN or infinity, wanted finite logits; check its weights, mean and std"
    if not binary and (output >= 0).all() and ((output.sum(1) - 1).abs() < 1e-4).all():
        return "gave probabilities (rows sum to 1), wanted logits; remove the softmax at its end"
    if binary and count >= SURELY and ((output >= 0) & (output <= 1)).all():
        return "gave numbers from 0 to 1 alone, wanted a logit; remove the sigmoid at its end"
    return ""


def load_script(path: Path, device: str | torch.device = "cpu") -> torch.jit.ScriptModule:
    """Load a TorchScript file on a device.

    A traced script makes its own constants where it was traced: those places are named anew.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, or broken.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; give the path of a TorchScript file")
    if not _is_torchscript(path):
        raise ValueError(
            f"{path} is not TorchScript, and pickled files are never opened; write it by "
            "torch.jit.script(model).save(...) or give file.py:function"
        )
    with warnings.catch_warnings():  # torch announces the end of torch.jit at each load
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            script = torch.jit.load(path, map_location=device)
        except (RuntimeError, ValueError) as error:
            line = one_line(error)
            raise ValueError(f"{path} does not load ({line}); write it again") from error
    for module in script.modules():
        graph = getattr(module, "graph", None)
        for node in graph.findAllNodes("prim::Constant") if graph else ():
            if node.output().type().kind() == "DeviceObjType":
                node.s_("value", str(device))
    return script.to(device)


def _is_torchscript(path: Path) -> bool:
    """A zip with code in it; what torch.save writes is a zip without, or no zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
