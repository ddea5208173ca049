"""The rules of the house that a machine can hold: sizes, floors, quick help, true documents."""

import ast
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from stylex import runs

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "stylex"
MODULES = sorted(SOURCE.glob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = (
    "train",
    "train-classifier",
    "search",
    "explain",
    "evaluate",
    "report",
    "study",
    "view",
    "export",
    "demo",
    "plant",
)
FLOORS = ("mean_w", "other_w", "swapped_p", "mean_p")
WRAPPING = ("setup", "setup_module", "DistributedDataParallel")
LINES_PER_MODULE = 400
LINES_PER_FUNCTION = 60


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python apart from this process, whose modules are already loaded."""
    environment = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def help_of(*command: str) -> str:
    """What `stylex COMMAND --help` prints."""
    answer = python("-m", "stylex", *command, "--help")
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a Markdown page in one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def shown_commands() -> dict[str, set[str]]:
    """Each `stylex COMMAND` that a page shows, with the flags it is shown with."""
    shown: dict[str, set[str]] = {}
    for page in PAGES:
        for line in "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
            one_or_two = r"(?:^|\s)stylex (study [a-z]+|[a-z][a-z-]*)(.*)"
            found = re.search(one_or_two, line.split("#")[0])
            if found:
                flags = re.findall(r"(?<=\s)--[a-z0-9-]+", found[2])
                shown.setdefault(found[1], set()).update(flags)
    return shown


def names_in(module: Path) -> set[str]:
    """Functions, classes, constants and `Class.method`s that a module defines."""
    names: set[str] = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            inside = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            names.update(f"{node.name}.{part.name}" for part in inside)
        if isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_modules_stay_small() -> None:
    """No module grows past 400 lines; the table shows how much room is left."""
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    for name, count in sorted(lines.items(), key=lambda item: -item[1]):
        print(f"{count:5d} {name}")
    print(f"{sum(lines.values()):5d} in all")
    assert not {name: count for name, count in lines.items() if count > LINES_PER_MODULE}


def test_runs_alone_names_what_lies_in_a_run() -> None:
    """Files of a run, of an attribute's folder and of an explanation's: nobody else spells one."""
    run = vars(runs.Run("run")).values()
    names = {path.name for path in run if path.suffix in (".json", ".jsonl", ".safetensors")}
    names |= {runs.ATTRIBUTE, runs.SPRITE, runs.BEFORE_AFTER, runs.MAP}
    names |= {runs.EXPLANATION, runs.STRIP, runs.MAPS, runs.ANIMATION}
    spelt = {
        f"{module.name}:{node.lineno} {node.value}"
        for module in MODULES
        if module.name != "runs.py"
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Constant) and str(node.value).rpartition("/")[2] in names
    }
    assert spelt == set()


def test_functions_stay_short() -> None:
    """No function is longer than 60 lines, its docstring and decorators apart."""
    long = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) and node.body[1:] else node.body
                length = (node.end_lineno or 0) - body[0].lineno + 1
                if length > LINES_PER_FUNCTION:
                    long.append(f"{path.name}:{node.lineno} {node.name}: {length} lines")
    assert not long, "\n".join(long)


def test_every_module_has_a_floor() -> None:
    """The floors of pyproject.toml name all modules and no other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    named = sorted(name.strip() for layer in layers for name in layer.split("|"))
    assert named == sorted(path.stem for path in MODULES if path.name != "__init__.py")


def test_help_lists_every_command_and_answers_within_a_second() -> None:
    """The best of three counts: a busy machine may be late once."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        text = help_of()
        seconds.append(time.perf_counter() - start)
        if seconds[-1] < 1:
            break
    assert [name for name in COMMANDS if not re.search(rf"(?<![\w-]){name}(?![\w-])", text)] == []
    assert min(seconds) < 1


def test_help_imports_no_torch() -> None:
    """The command line knows its options without loading what it will run."""
    answer = python(
        "-c",
        "import sys\n"
        "from stylex.cli import main\n"
        "sys.argv = ['stylex', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print('TORCH' if 'torch' in sys.modules else 'LIGHT')",
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert answer.stdout.rstrip().endswith("LIGHT")


def test_report_imports_no_torch() -> None:
    """A report is made from finished files: it must open where torch is not installed."""
    answer = python("-c", "import sys, stylex.report; sys.exit('torch' in sys.modules)")
    assert answer.returncode == 0, answer.stderr[-2000:] or "stylex.report imports torch"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_of_pages_compiles_and_uses_public_names(page: Path) -> None:
    """What a page shows in Python is Python, and each `stylex.NAME` in it exists."""
    import stylex

    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block, filename=page.name)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "stylex"
            ):
                assert hasattr(stylex, node.attr), f"{page.name}: no stylex.{node.attr}"


def test_commands_of_pages_exist() -> None:
    """Every command and flag that README and docs show is one that the help lists."""
    shown = shown_commands()
    assert shown, "no page shows a command"
    assert {command.split()[0] for command in shown} <= set(COMMANDS)
    for command, flags in shown.items():
        text = help_of(*command.split())
        missing = [flag for flag in flags if not re.search(rf"{flag}(?![\w-])", text)]
        assert not missing, f"stylex {command} has no {missing}"


def test_readme_shows_its_two_commands() -> None:
    """The README starts a stranger with two commands that the Makefile has."""
    shown = "".join(blocks(ROOT / "README.md", "bash"))
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("demo", "test"):
        assert f"make {command}" in shown
        assert re.search(rf"^{command}:", rules, flags=re.MULTILINE)


def test_method_page_names_code_that_exists() -> None:
    """Each `module.name` in the table from paper to code is defined in that module."""
    modules = {path.stem: path for path in MODULES}
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    cited = [(m, n) for m, n in re.findall(r"`([a-z]+)\.([A-Za-z_.0-9]+)`", text) if n != "py"]
    wrong = [f"{m}.{n}" for m, n in cited if m not in modules or n not in names_in(modules[m])]
    assert cited
    assert not wrong, f"docs/method.md names what is not there: {wrong}"


def test_nothing_is_unpickled() -> None:
    """Where `torch.load` is called it says `weights_only=True` (ruff forbids `pickle` itself)."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("weights_only") == "True", f"{path.name}:{node.lineno}"


def test_no_network_goes_through_the_wrapping_setup() -> None:
    """Fabric's `setup` and its kin wrap in DDP, which breaks double backward (trap 8): none."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr not in WRAPPING, f"{path.name}:{node.lineno} {node.attr}"


def tables_in(told: object) -> Iterator[dict[str, object]]:
    """Every object of a JSON file, however deep."""
    if isinstance(told, dict):
        yield told
    inside = told.values() if isinstance(told, dict) else told if isinstance(told, list) else ()
    for part in inside:
        yield from tables_in(part)


@pytest.mark.parametrize("name", ["demo", "first_runs", "real_domains", "screen"])
def test_agreement_never_stands_without_its_floors(name: str) -> None:
    """In the benchmarks' results: mean w, another w, swapped p, mean p beside every agreement."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    told = [table for table in tables_in(json.loads(path.read_text())) if "agreement" in table]
    assert told
    for table in told:
        its = table["agreement"]
        floors = its if isinstance(its, dict) else table
        start = "" if isinstance(its, dict) else "agreement_"
        assert {f"{start}{floor}" for floor in FLOORS} <= set(floors)
