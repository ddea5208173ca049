"""The forms of a study: one page each, questions that plain HTML can ask, nothing from the network.

What a page holds can be read by who fills it in, so it holds no right answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Literal

from stylex.page import Html, digest, facts, inert, join, note, percent, tag
from stylex.runs import replacing
from stylex.standing import marks

VERSION = 1  # of pages, keys and answers
SECONDS = {"classification": 15, "verbal": 25, "panel": 90}  # for one question, roughly
VERDICTS = {
    "known sign": "what the class is recognised by, as taught",
    "plausible new sign": "not taught, but it could have to do with the class",
    "confounder": "goes along with the class in these images without being part of it",
    "artefact": "of the camera, the file or the generator",
    "cannot tell": "the pictures do not let me decide",
}
TITLES = {
    "classification": "Which shows the same change?",
    "verbal": "What changes most?",
    "panel": "Panel dossier: what are these changes?",
}

Form = Literal["classification", "verbal", "panel"]
Json = Mapping[str, Any]


def write_form(
    folder: Path, form: Form, questions: Mapping[str, Html], *, contact: str, about: Json
) -> None:
    """Write one form as a page beside its pictures.

    Args:
        folder: that holds `pictures/`; the page is `<form>.html` in it.
        form: which of the three.
        questions: the name of each item and its `fieldset`.
        contact: who answers for the study, in the consent text.
        about: what the page's script and a simulated participant read: study, form, pictures.
    """
    page, base, own, script = (
        (files("stylex") / name).read_text("utf-8")
        for name in ("study.html", "page.css", "study.css", "study.js")
    )
    style = base + own
    policy = (
        f"default-src 'none'; img-src 'self' file: data:; style-src '{digest(style)}'; "
        f"script-src '{digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    filled = Template(page).substitute(
        policy=policy,
        style=style,
        script=script,
        title=TITLES[form],
        consent=_consent(form, len(questions), contact),
        items=join(questions.values()),
        about=inert(about),
    )
    with replacing(folder / f"{form}.html") as partial:
        partial.write_text(filled, encoding="utf-8")


def _consent(form: Form, count: int, contact: str) -> Html:
    minutes = max(1, round(count * SECONDS[form] / 60))
    told = (
        ("What you do. ", _TASKS[form], f" There are {count} questions: about {minutes} minutes."),
        ("What is tested. ", "The pictures, not you. ", _NO_ANSWER[form]),
        ("What is kept. ", "No name, no address, no cookie. Your answers stay in this browser "
         "until you download them as a file; nothing is sent. The file holds a random number, "
         "your answers, and whether the pictures stood still."),
        ("You are free. ", "Stop whenever you like and go on later, in the same browser or in any "
         "with the file that you downloaded; or delete your answers. Not taking part has no "
         "consequence."),
        ("Pictures that switch. ", "They switch between before and after every 0.6 seconds. "
         "“Hold still” shows both side by side instead."),
        ("Questions? ", "Ask ", contact, "."),
    )  # fmt: skip
    return join(tag("p", tag("strong", head), *rest) for head, *rest in told)


_TASKS = {
    "classification": "Two examples show one and the same change in two pictures. You say which of "
    "two further pictures, A or B, shows that change too. Where you cannot tell, guess.",
    "verbal": "Four examples show one and the same change. You name what changes most, in one to "
    "four words, or say that it is hard to say.",
    "panel": "Each page shows a change that moves a classifier's decision, with what was measured "
    "about it. You judge what it is, from your knowledge of the field, and say why.",
}


_NO_ANSWER = {
    "classification": "Some questions have no good answer; that is meant so.",
    "verbal": "Some questions have no good answer; that is meant so.",
    "panel": "“Cannot tell” is a verdict like the others.",
}


def classification_item(name: str, pictures: Sequence[str]) -> Html:
    """Two examples of a change, then A or B.

    Args:
        name: of the item.
        pictures: addresses of example 1, example 2, A and B.
    """
    shown = [_pair(p, f"Example {i}") for i, p in enumerate(pictures[:2], start=1)]
    choices = []
    for letter, picture in zip("AB", pictures[2:], strict=True):
        radio = tag("input", type="radio", name_=f"choice-{name}", value=letter, required="")
        alt = f"Picture {letter}, before and after"
        inside = (*_frames(picture, alt), tag("span", radio, letter, class_="letter"))
        choices.append(tag("label", *inside, class_="choice"))
    return _item(
        name,
        "Which of A and B shows the same change as the two examples?",
        tag("div", *shown, class_="row"),
        tag("div", *choices, class_="row choices", role="radiogroup", aria_label="A or B"),
    )


def verbal_item(name: str, pictures: Sequence[str]) -> Html:
    """Examples of one change, then a few words."""
    shown = [_pair(p, f"Example {i}") for i, p in enumerate(pictures, start=1)]
    field = tag("input", type="text", name_=f"words-{name}", class_="words", required="",
                maxlength=60, autocomplete="off", spellcheck="true")  # fmt: skip
    hard = tag("input", type="checkbox", name_=f"hard-{name}", value="yes")
    return _item(
        name,
        "What is the single most prominent change?",
        tag("div", *shown, class_="row"),
        tag("label", tag("span", "One to four words", class_="asked"), field),
        tag("label", hard, "Hard to say", class_="option"),
    )


def panel_item(name: str, pictures: Sequence[str], attribute: Json, metrics: Json) -> Html:
    """All that is known of one attribute, then a verdict and its reason.

    Args:
        name: of the item.
        pictures: addresses of the examples.
        attribute: as in `search.json`, with a title, and the `probabilities` of each example
            before and after.
        metrics: contents of `metrics.json`, for the trust gates.
    """
    chances = (f"{percent(a)} \N{RIGHTWARDS ARROW} {percent(b)}" for a, b in
               attribute["probabilities"])  # fmt: skip
    shown = [
        _pair(picture, f"Example {i}", chance)
        for i, (picture, chance) in enumerate(zip(pictures, chances, strict=True), start=1)
    ]
    known = {
        "Mean effect": f"{attribute['effect']:+.2f} logits",
        "Changes": f"{percent(attribute['share'])} of the images",
        "Coordinate": f"{attribute['coordinate']}, layer {attribute['layer']}",
    }
    tried = marks(metrics, attribute) or note("Its trust gates were not asked.")
    choices = [_verdict(name, verdict, says) for verdict, says in VERDICTS.items()]
    why = tag("textarea", name_=f"why-{name}", class_="words", rows=3, required="", maxlength=1000)
    return _item(
        name,
        attribute["title"],
        tag("div", *shown, class_="row"),
        note("Below each: the classifier's probability of the class, before and after."),
        facts(known),
        tried,
        tag("div", *choices, role="radiogroup", aria_label="What is it?"),
        tag("label", tag("span", "Why?", class_="asked"), why),
    )


def _verdict(name: str, verdict: str, says: str) -> Html:
    radio = tag("input", type="radio", name_=f"verdict-{name}", value=verdict, required="")
    return tag("label", radio, tag("span", verdict, tag("small", says)), class_="option")


def _item(name: str, question: str, *inside: Html) -> Html:
    asked = tag("legend", question, tabindex=-1)
    return tag("fieldset", asked, *inside, name_=name, class_="item", hidden="", disabled="")


def _pair(picture: str, title: str, *more: str) -> Html:
    caption = tag("figcaption", *(tag("span", line) for line in (title, *more)))
    return tag("figure", *_frames(picture, f"{title}, before and after"), caption)


def _frames(picture: str, alt: str) -> Iterable[Html]:
    """Before and after lie side by side in one picture; the style shows one in turn, or both."""
    ends = tag("span", "before"), tag("span", "after")
    film = tag("span", tag("img", src=picture, alt=alt), class_="pair")
    return film, tag("span", *ends, class_="frames", aria_hidden="true")
