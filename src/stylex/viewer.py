"""`stylex view`: the report's page over the model itself, for one person or a small group.

stylex view --run runs/leaves --data photos-val/

The application knows of models only what a `Session` answers; who may ask it is the door's matter.
Networks are asked in one thread, one question after the other: in several threads each would have
its own pool of workers and take three times as long.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from stylex.cards import described
from stylex.door import LOOPBACK, Door
from stylex.notes import (
    NAME_LETTERS,
    NOTE_LETTERS,
    Mark,
    as_csv,
    name_attributes,
    read_notes,
    write_note,
)
from stylex.page import policy
from stylex.report import page_of
from stylex.runs import Run, read_json

try:
    import uvicorn
    from fastapi import APIRouter, Depends, FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse
    from pydantic import BaseModel, ConfigDict, Field
    from starlette.exceptions import HTTPException
except ImportError as error:
    raise ValueError(
        f"stylex view needs one more package ({error.name}): pip install 'stylex[view]'"
    ) from None

RUNS = 4  # side by side
IMAGES = 1000  # in a gallery
KNOBS = 64  # moved at once
TITLE_LETTERS = 100  # of an animation
Index = Annotated[int, Field(ge=0, le=2**31)]
Strength = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]


class Asked(BaseModel):
    """A body: nothing that is not asked for, and no text that stands for a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Knob(Asked):
    """One coordinate and how far it is moved, below 0 towards its low bound."""

    coordinate: Index
    strength: Strength


class Edit(Asked):
    """An image and all knobs that are not at rest."""

    image: Index
    knobs: Annotated[list[Knob], Field(max_length=KNOBS)] = []

    @property
    def moves(self) -> dict[int, float]:
        """Strength by coordinate."""
        return {knob.coordinate: knob.strength for knob in self.knobs}


class Curve(Edit):
    """Over which coordinate the curve runs."""

    coordinate: Index


class Flip(Edit):
    """The class wanted, and which coordinates must not change."""

    target: Index
    frozen: Annotated[list[Index], Field(max_length=KNOBS)] = []


class Film(Edit):
    """The format of an animation, words to write below it, and how the change is shown."""

    format: Literal["GIF", "WEBP"]
    title: Annotated[str, Field(max_length=TITLE_LETTERS)] = ""
    view: Literal["after", "split", "difference", "flicker"] = "after"
    edge: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5  # of a split


class Coordinate(Asked):
    """One attribute's coordinate."""

    coordinate: Index


class Saying(Coordinate):
    """What somebody says of an attribute; what is not sent stays as it stands."""

    name: Annotated[str, Field(max_length=NAME_LETTERS)] = ""
    note: Annotated[str, Field(max_length=NOTE_LETTERS)] = ""
    mark: Mark = ""


@dataclass(frozen=True)
class Opened:
    """A run, what answers for it, and its finished page."""

    run: Run
    session: Any  # a `Session`: named by no annotation that is read at run time, it brings torch
    page: str


def create_app(paths: Sequence[Path], sessions: Sequence[Any], *, missing: str = "") -> FastAPI:
    """The API and the pages, without a door.

    Args:
        paths: the run directories.
        sessions: the `Session` of each, in the same order.
        missing: what cannot be shown, in words.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    runs = [Run.open(path) for path in paths]
    app.state.runs = [
        Opened(run, session, page_of(run, {"live": True, "page": i}))
        for i, (run, session) in enumerate(zip(runs, sessions, strict=True))
    ]
    app.state.missing = missing
    app.state.decoding = asyncio.Lock()  # one at a time: a large image needs much memory
    app.include_router(asks)
    _answer_mistakes(app)
    return app


asks = APIRouter()


async def _opened(run: int, request: Request) -> Opened:
    runs = request.app.state.runs
    if not 0 <= run < len(runs):
        raise KeyError(f"there is no run {run} here")
    return runs[run]


async def _sent(request: Request) -> bytes:
    if not request.headers.get("content-type", "").startswith("image/"):
        raise ValueError("send the image as it is, with its content type image/...")
    return await request.body()


OneRun = Annotated[Opened, Depends(_opened)]


@asks.get("/")
async def first(request: Request) -> Response:
    """The page of the first run."""
    return await page(await _opened(0, request))


@asks.get("/runs/{run}")
async def page(at: OneRun) -> Response:
    """The page of one run."""
    headers = {"content-security-policy": f"{policy(True)}; frame-ancestors 'none'"}
    return HTMLResponse(at.page, headers=headers)


@asks.get("/api/runs")
async def about(request: Request) -> Response:
    """All runs: classes, knobs, notes, images."""
    shown = []
    for at in request.app.state.runs:
        metrics = read_json(at.run.metrics) if at.run.metrics.is_file() else {}
        own = {"images": at.session.images, "photos": at.session.photos is not None}
        shown.append(described(at.run, metrics) | own)
    return JSONResponse({"runs": shown, "missing": request.app.state.missing})


@asks.get("/api/runs/{run}/atlas/{kind}")
async def atlas(at: OneRun, kind: Literal["photo", "drawn"]) -> Response:
    """All images of one kind in one picture."""
    return Response(at.session.atlas(kind), media_type="image/webp")


@asks.post("/api/images")
async def upload(request: Request, file: Annotated[bytes, Depends(_sent)]) -> Response:
    """Encode somebody's image in every run; nobody waits while it is decoded."""
    sessions = [at.session for at in request.app.state.runs]
    async with request.app.state.decoding:
        photos = [await asyncio.to_thread(session.decode, file) for session in sessions]
    answers = [session.upload(photo) for session, photo in zip(sessions, photos, strict=True)]
    return JSONResponse(answers)


@asks.post("/api/runs/{run}/edit")
async def edit(at: OneRun, asked: Edit) -> Response:
    """An image with several knobs moved, and its probabilities."""
    return JSONResponse(at.session.edit(asked.image, asked.moves))


@asks.post("/api/runs/{run}/curve")
async def curve(at: OneRun, asked: Curve) -> Response:
    """Probabilities over the strength of one knob, the others as they stand."""
    return JSONResponse(await at.session.curve(asked.image, asked.moves, asked.coordinate))


@asks.post("/api/runs/{run}/flip")
async def flip(at: OneRun, asked: Flip) -> Response:
    """As few attributes as possible that make the classifier decide for the target."""
    if asked.target >= len(at.session.model.classes):
        raise KeyError(f"there is no class {asked.target}")
    return JSONResponse(at.session.flip(asked.image, asked.moves, asked.target, asked.frozen))


@asks.post("/api/runs/{run}/examples")
async def examples(at: OneRun, asked: Coordinate) -> Response:
    """Many images of one attribute, both ways."""
    return JSONResponse(await at.session.examples(_known(at, asked.coordinate)))


@asks.post("/api/runs/{run}/film")
async def film(at: OneRun, asked: Film) -> Response:
    """The reconstruction and what is shown, in turn, as an animation."""
    how = {"name": asked.title, "view": asked.view, "edge": asked.edge}
    made = at.session.animation(asked.image, asked.moves, asked.format, **how)
    return Response(made, media_type=f"image/{asked.format.lower()}")


@asks.post("/api/runs/{run}/against/{other}")
async def against(at: OneRun, other: int, request: Request) -> Response:
    """Which of a run's attributes another run's classifier uses too."""
    return JSONResponse(await at.session.against((await _opened(other, request)).session))


@asks.post("/api/runs/{run}/notes")
async def say(at: OneRun, asked: Saying) -> Response:
    """Save what somebody says of an attribute, at once."""
    said = asked.model_dump(exclude_unset=True, exclude={"coordinate"})
    notes = write_note(at.run.path, _known(at, asked.coordinate), **said)
    name_attributes(at.run.path)
    return JSONResponse(notes)


@asks.get("/api/runs/{run}/notes.csv")
async def table(at: OneRun) -> Response:
    """All that was said, for a spreadsheet."""
    headers = {"content-disposition": 'attachment; filename="notes.csv"'}
    text = as_csv(read_notes(at.run.path))
    return Response(text, media_type="text/csv", headers=headers)


def _known(at: Opened, coordinate: int) -> int:
    if coordinate not in at.session.coordinates:
        raise KeyError(f"coordinate {coordinate} is none of the attributes found")
    return coordinate


def _answer_mistakes(app: FastAPI) -> None:
    """Each mistake of an asker is a status and one line; what he sent is not sent back."""

    def line(status: int, says: str) -> Response:
        return JSONResponse({"says": says}, status)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = " ".join(str(part) for part in first["loc"] if part != "body")
        plain = where.encode("ascii", "replace").decode()[:80]
        return line(422, f"{plain}: {first['type']}" if plain else str(first["type"]))

    @app.exception_handler(HTTPException)
    def refused(_request: Request, error: HTTPException) -> Response:
        return line(error.status_code, str(error.detail))

    @app.exception_handler(KeyError)
    def unknown(_request: Request, error: KeyError) -> Response:
        return line(404, str(error.args[0]))

    @app.exception_handler(ValueError)
    def wrong(_request: Request, error: ValueError) -> Response:
        return line(422, str(error))

    @app.exception_handler(OSError)
    def unwritable(_request: Request, error: OSError) -> Response:
        return line(409, f"the run cannot be written ({error.strerror}); make it writable")


def view(
    *,
    run: tyro.conf.UseAppendAction[tuple[str, ...]],
    data: str | None = None,
    images: int = 200,
    classifier: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    host: str = "127.0.0.1",
    port: int = 8420,
) -> None:
    """Open runs in the browser: move attributes, flip images, give names, compare.

    Args:
        run: directory of a run that was searched; give it again to put another one beside.
        data: images to look at; without them the run's search images as the model redraws them,
            for a run keeps no photos.
        images: most images.
        classifier: needed only where a run could not keep its own: file.py:function. No Python is
            called that only the run names. For several runs give one each.
        host: address to listen at; any other than this machine's own asks visitors for a token.
        port: 0 takes a free one.
    """
    import torch

    paths = [Path(one) for one in run]
    # one core is the browser's: two threads that wait for it and for each other take longer
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) - 1)))
    sessions, missing = open_sessions(paths, data=data, images=images, classifiers=classifier)
    app = create_app(paths, sessions, missing=missing)
    own = host in LOOPBACK
    token = "" if own else secrets.token_urlsafe(24)
    with listening(host, port) as bound:
        where = f"http://{_in_address(host)}:{bound.getsockname()[1]}/"
        print(f"{missing}\n" * bool(missing) + where + f"?token={token}" * (not own), flush=True)
        door = Door(app, hosts=LOOPBACK if own else None, token=token)
        config = uvicorn.Config(door, log_level="warning", access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[bound])


def open_sessions(
    paths: Sequence[Path], *, data: str | None, images: int, classifiers: Sequence[str]
) -> tuple[list[Any], str]:
    """Open the runs, and say what cannot be shown of them.

    Raises:
        ValueError: too many runs, or runs of other images that `data` does not bring together.
    """
    from stylex.session import Session

    if not 1 <= len(paths) <= RUNS:
        raise ValueError(f"{len(paths)} runs came; give one to {RUNS} by --run")
    if not 1 <= images <= IMAGES:
        raise ValueError(f"images is {images}; wanted 1 to {IMAGES}, give another")
    if classifiers and len(classifiers) != len(paths):
        raise ValueError("give one --classifier for each --run, in the same order")
    of = classifiers or [None] * len(paths)
    options = {"data": data, "images": images}
    sessions = [Session.open(p, classifier=c, **options) for p, c in zip(paths, of, strict=True)]
    if data is not None:
        return sessions, ""
    if len({_searched(path, session) for path, session in zip(paths, sessions, strict=True)}) > 1:
        raise ValueError("these runs were searched on other images; give the same to all by --data")
    source = read_json(Run.open(paths[0]).about)["data"]["source"]
    return sessions, (
        "No photos: a run does not keep them. Shown are the search images as the model redraws "
        f"them; --data adds photos (this run was trained on {source})."
    )


def _searched(path: Path, session: Any) -> tuple[Any, ...]:
    """What tells whether two runs were searched on the same images."""
    data, digests = read_json(Run.open(path).about)["data"], session.found.made.get("searched", ())
    return data["hash"], len(session.styles), *digests


def listening(host: str, port: int) -> socket.socket:
    """A socket to serve at; ValueError where it is taken."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.create_server((host, port), family=family)
        # connections take this over; without it the end of an answer waits 40 ms for the visitor
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen at {host} port {port} ({error}); give others") from None


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
