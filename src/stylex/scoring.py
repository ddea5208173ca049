"""`stylex study score`: what people saw, from the files that they downloaded.

People and simulated participants are never added up. Every share stands with its interval and with
its controls: items of random coordinates and of no change.
"""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np

from stylex.forms import VERDICTS, VERSION
from stylex.metrics import interval
from stylex.page import number, percent
from stylex.plotting import Point, Votes, forest, grid
from stylex.runs import read_json, replacing, write_json

Json = Mapping[str, Any]

PAPER = {"perceived gender": 0.96, "perceived age": 0.983, "plants": 0.916, "cats/dogs": 0.933}
KINDS = {"attribute": "attributes", "random": "random coordinates", "unchanged": "no change"}
GROUPS = {"people": "People", "simulated": "Simulated participants: a floor, not people"}
EMPTY_WORDS = (  # said with any change, whatever it is
    r"\b(an?|the|and|or|as|at|in|of|on|to|with|than|that|there|is|it|its|are|was|has|have|had|"
    r"gets?|got|becomes?|became|changes?|changed|more|less|very|much|some|no)\b"
)
ENDINGS = r"(?<=\w)(n['\u2019]t|['\u2019](s|re|ve|ll|d|m))\b"  # isn't, it's, the leaf's
COLUMNS = ("group", "form", "kind", "item", "value", "low", "high", "answers", "says")


def score(files: tuple[str, ...], /, *, key: str, out: str = "study-scores") -> None:
    """Score downloaded answers: tables here; JSON, CSV and plots in a directory.

    Args:
        files: answers that people downloaded, of any forms of one study; simulated ones too.
        key: the key that `stylex study make` wrote.
        out: directory to write.
    """
    from rich.console import Console

    known = read_key(Path(key))
    results = scores([read_answers(Path(file), known) for file in files], known)
    place = Path(out)
    write_json(place / "scores.json", results)
    rows = list(as_rows(results))
    with (
        replacing(place / "scores.csv") as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        csv.writer(file).writerows([COLUMNS, *rows])
    for form, says, lines in (
        ("classification", "Accuracy", {"chance": 0.5} | PAPER),
        ("verbal", "Share of the commonest word", {}),
    ):
        if points := [_point(row) for row in rows if row[1] == form and row[4] is not None]:
            with replacing(place / f"{form}.svg") as partial:
                partial.write_text(forest(says, points, lines), encoding="utf-8")
    if votes := [_votes(row) for row in rows if row[1:3] == ("panel", "attribute")]:
        with replacing(place / "panel.svg") as partial:
            partial.write_text(grid("Verdicts of the panel", votes, list(VERDICTS)), "utf-8")
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for table in _tables(results, rows):
        console.print(table)
    console.print(f"written: {out}")


# Files in


def read_key(path: Path) -> dict[str, Any]:
    """The key of a study.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no key, or another version's.
    """
    key = read_json(path)
    if not {"version", "study", "classification", "attributes"} <= key.keys():
        raise ValueError(f"{path} is no key; give the one that `stylex study make` wrote")
    if key["version"] != VERSION:
        raise ValueError(
            f"{path} has version {key['version']}, this StylEx reads {VERSION}; use the StylEx "
            "that wrote it"
        )
    return key


def read_answers(path: Path, key: Json) -> dict[str, Any]:
    """One file of answers that belongs to the key.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file of answers, of another study, or holds what no form asks for.
    """
    given = read_json(path)
    wanted = {"study": str, "form": str, "participant": str, "simulated": bool, "answers": dict}
    if not all(isinstance(given.get(name), kind) for name, kind in wanted.items()):
        raise ValueError(f"{path} is no file of answers; give what a form of the study downloads")
    if given["study"] != key["study"]:
        raise ValueError(
            f"{path} answers another study ({given['study']:.12}, the key is of {key['study']}); "
            "leave it out or give its own key"
        )
    if given["form"] not in ANSWERED:
        raise ValueError(
            f"{path} answers {given['form']!r:.40}; there are {', '.join(ANSWERED)}; leave it out"
        )
    for item, answer in given["answers"].items():
        if item not in key[given["form"]] or not _possible(given["form"], answer):
            raise ValueError(
                f"{path} holds what its form cannot give at item {item!r:.20}; ask for the file as "
                "it was downloaded"
            )
    return given | {"file": str(path)}


ANSWERED: dict[str, Callable[[Json], bool]] = {
    "classification": lambda answer: answer.get("choice") in ("A", "B"),
    "verbal": lambda answer: answer.get("hard") == "yes" or bool(answer.get("words")),
    "panel": lambda answer: answer.get("verdict") in VERDICTS,
}
PARTS: dict[str, dict[str, tuple[str, ...]]] = {  # what may be said in each; () is free text
    "classification": {"choice": ("A", "B")},
    "verbal": {"words": (), "hard": ("yes",)},
    "panel": {"verdict": tuple(VERDICTS), "why": ()},
}


def _possible(form: str, answer: object) -> bool:
    """Whether a form can give such an answer; an unfinished one lacks some parts."""
    return isinstance(answer, dict) and all(
        isinstance(said, str) and part in PARTS[form] and said in (PARTS[form][part] or (said,))
        for part, said in answer.items()
    )


# Scores


def scores(files: Sequence[Json], key: Json) -> dict[str, Any]:
    """All that the answers say, people and simulated participants apart.

    Args:
        files: as `read_answers` gives them.
        key: as `read_key` gives it.

    Returns:
        By group: `classification` and `verbal` as lists of shares, `panel` with its agreement.

    Raises:
        ValueError: two files are of one participant and form.
    """
    seen: dict[tuple[str, str], str] = {}
    for file in files:
        who = file["participant"], file["form"]
        if who in seen:
            raise ValueError(
                f"{seen[who]} and {file['file']} are of one participant and form; give one of them"
            )
        seen[who] = file["file"]
    groups = {
        "people": [file for file in files if not file["simulated"]],
        "simulated": [file for file in files if file["simulated"]],
    }
    return {
        "study": key["study"],
        "paper": PAPER,
        **{name: _group(group, key) for name, group in groups.items()},
    }


def _group(files: Sequence[Json], key: Json) -> dict[str, Any]:
    by_form = {form: [f for f in files if f["form"] == form] for form in ANSWERED}
    return {
        "participants": {form: len(some) for form, some in by_form.items()},
        "classification": list(_accuracies(by_form["classification"], key)),
        "verbal": list(_words(by_form["verbal"], key)),
        "panel": _panel(by_form["panel"], key),
    }


def _given(files: Sequence[Json], item: str) -> list[Json]:
    """What was answered to one item, by those who did."""
    answers = [(file["form"], file["answers"].get(item, {})) for file in files]
    return [answer for form, answer in answers if ANSWERED[form](answer)]


def _share(hits: int, answers: int) -> dict[str, Any]:
    if not answers:
        return {"value": None, "why_value": "nobody answered", "answers": 0}
    low, high = interval(hits, answers)
    ends = {"low": round(low, 6), "high": round(high, 6)}
    return {"value": hits / answers, **ends, "answers": answers}


def _accuracies(files: Sequence[Json], key: Json) -> Iterator[dict[str, Any]]:
    """Over all attributes, of each attribute, and of each kind of control."""
    items = key["classification"]
    kinds = {kind: [n for n, item in items.items() if item["kind"] == kind] for kind in KINDS}
    sets = [("attribute", "all", kinds["attribute"])]
    sets += [
        ("attribute", about["title"], [n for n in kinds["attribute"] if items[n]["attribute"] == a])
        for a, about in key["attributes"].items()
    ]
    sets += [(kind, KINDS[kind], kinds[kind]) for kind in ("random", "unchanged") if kinds[kind]]
    for kind, says, names in sets:
        right = [a["choice"] == items[n]["right"] for n in names for a in _given(files, n)]
        yield {"kind": kind, "item": says, **_share(sum(right), len(right))}


def _words(files: Sequence[Json], key: Json) -> Iterator[dict[str, Any]]:
    """Of each item the commonest word and the share of people who use it."""
    ranks = [*key["attributes"], *KINDS]  # the controls come last
    place = {n: ranks.index(i.get("attribute") if i["kind"] == "attribute" else i["kind"])
             for n, i in key["verbal"].items()}  # fmt: skip
    for n, item in sorted(key["verbal"].items(), key=lambda pair: place[pair[0]]):
        given = _given(files, n)
        used = Counter(word for answer in given for word in words_of(answer.get("words", "")))
        # nobody's word is shared by nobody; of equals the first in the alphabet
        word, hits = min(used.items(), key=lambda pair: (-pair[1], pair[0]), default=("", 0))
        about = key["attributes"].get(item.get("attribute"))
        yield {
            "kind": item["kind"],
            "item": about["title"] if about else f"{KINDS[item['kind']]}, item {n}",
            "word": word,
            "hard_to_say": sum(not answer.get("words") for answer in given),
            "said": sorted(answer["words"] for answer in given if answer.get("words")),
            **_share(hits, len(given)),
        }


def words_of(text: str) -> set[str]:
    """The words of an answer that carry meaning, small, in letters only, without a plural s."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = re.sub(EMPTY_WORDS, " ", re.sub(ENDINGS, "", plain))
    # marks that belong to a letter are no letters
    letters = (c if unicodedata.category(c)[0] in "LM" else " " for c in plain)
    words = {word for word in "".join(letters).split() if len(word) > 1 or not word.isascii()}
    return {re.sub(r"(?<![sui])s$", "", word) if len(word) > 3 else word for word in words}


def _panel(files: Sequence[Json], key: Json) -> dict[str, Any]:
    """Verdicts on each attribute, and how far the members agree beyond chance."""
    names = list(VERDICTS)
    table = np.full((len(files), len(key["panel"])), np.nan)
    verdicts = []
    for column, (n, item) in enumerate(key["panel"].items()):
        given = [file["answers"].get(n, {}) for file in files]
        for row, answer in enumerate(given):
            if ANSWERED["panel"](answer):
                table[row, column] = names.index(answer["verdict"])
        said = Counter(a["verdict"] for a in given if ANSWERED["panel"](a))
        verdicts.append(
            {
                "item": key["attributes"][item["attribute"]]["title"],
                "verdicts": {verdict: said[verdict] for verdict in names},
                "why": [answer["why"] for answer in given if answer.get("why")],
            }
        )
    return {"members": len(files), **alpha(table), "attributes": verdicts}


def alpha(table: np.ndarray) -> dict[str, Any]:
    """Krippendorff's alpha of nominal verdicts.

    Args:
        table: `[members, attributes]`, the number of each verdict; nan where there is none.

    Returns:
        `alpha`, or None and `why_alpha`.
    """
    pairs = (np.isfinite(table).sum(0) >= 2).sum() if len(table) else 0
    if not pairs:
        return {"alpha": None, "why_alpha": "no attribute was judged by two members"}
    paired = table[:, np.isfinite(table).sum(0) >= 2]
    if len(np.unique(paired[np.isfinite(paired)])) < 2:
        return {"alpha": None, "why_alpha": "all gave one verdict: there is nothing to agree about"}
    value = krippendorff.alpha(reliability_data=table, level_of_measurement="nominal")
    return {"alpha": float(value)}


# Results out


def as_rows(results: Json) -> Iterator[tuple[Any, ...]]:
    """One line for each share and verdict, and for the panel's agreement, under `COLUMNS`."""
    for group in GROUPS:
        for form in ("classification", "verbal"):
            for one in results[group][form]:
                if one["answers"]:
                    ends = one["value"], one["low"], one["high"], one["answers"]
                    yield group, form, one["kind"], one["item"], *ends, one.get("word", "")
        for one in results[group]["panel"]["attributes"]:
            judged = sum(one["verdicts"].values())
            for verdict, votes in one["verdicts"].items():
                if votes:
                    share = _share(votes, judged)
                    ends = share["value"], share["low"], share["high"], judged
                    yield group, "panel", "attribute", one["item"], *ends, verdict
        if members := results[group]["panel"]["members"]:
            panel = results[group]["panel"]
            ends = panel["alpha"], None, None, members, panel.get("why_alpha", "")
            yield group, "panel", "agreement", "Krippendorff's alpha", *ends


def _point(row: Sequence[Any]) -> Point:
    group, _, _, item, value, low, high, answers, word = row
    return Point(f"{item}: {word}" if word else item, value, low, high, answers, group == "people")


def _votes(row: Sequence[Any]) -> Votes:
    group, _, _, item, value, _, _, judged, verdict = row
    return Votes(item, verdict, round(value * judged), judged, group == "people")


def _tables(results: Json, rows: Sequence[Sequence[Any]]) -> Iterator[Any]:
    from rich.table import Table

    for group, title in GROUPS.items():
        for form, says in (
            ("classification", "Which shows the same change?"),
            ("verbal", "Commonest word"),
            ("panel", "Verdicts"),
        ):
            mine = [row for row in rows if row[:2] == (group, form) and row[2] in KINDS]
            if not mine:
                continue
            count = results[group]["participants"][form]
            table = Table(
                "", "share", "95 % interval", "answers", title=f"{title} ({count}): {says}"
            )
            for _, _, _, item, value, low, high, answers, word in mine:
                ends = f"{percent(low)} to {percent(high)}"
                named = f"{item}: {word}" if word else item
                table.add_row(named, percent(value), ends, str(answers))
            yield table
            if form == "panel":
                yield _agreement(results[group]["panel"])
            if form == "classification":
                paper = ", ".join(f"{name} {percent(value)}" for name, value in PAPER.items())
                yield f"chance 50 %; the paper's studies: {paper}"


def _agreement(panel: Json) -> str:
    if panel["alpha"] is None:
        return f"Krippendorff's alpha: not available, {panel['why_alpha']}"
    return f"Krippendorff's alpha: {number(panel['alpha'])} (1 all agree, 0 as by chance)"
