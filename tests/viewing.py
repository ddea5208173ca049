"""What the viewer's tests share: small runs on disk and a server that answers for them."""

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
import uvicorn
from PIL import Image
from small import ROWS, Plain, begun, flat, searched, seeing, weighing

from stylex import showing
from stylex.door import LOOPBACK, Door
from stylex.session import Session
from stylex.viewer import create_app, listening

WEIGHTS = [[-0.9, 0.9], [-0.45, 0.45], [0.0, 0.0], [0.0, 0.0]]  # of two quarters
NAMES = ("a.png", "b.png", "c.png")
GATE = {"name": "survives blur", "passed": False, "says": "a blur leaves <b>4 %</b> of its effect"}


def session(
    *,
    photos: bool | Sequence[float] = False,
    quarter: int = 0,
    names: Sequence[str] = NAMES,
    classes: Sequence[str] = ("no", "yes"),
) -> Session:
    """A model in closed form whose classifier looks at one quarter, or weighs two of them.

    Args:
        photos: whether there are any; numbers say how much fainter each is than its reconstruction.
        quarter: the one that is looked at.
        names: of the photos.
        classes: of the classifier that weighs.
    """
    classifier = seeing(quarter) if quarter else weighing(WEIGHTS, [0.0, 0.0], classes)
    model = Plain(classifier)
    found = searched(model, ROWS, count=3, threshold=2.5)
    if not photos:
        return Session(model, found)
    faint = torch.tensor([1.0] * len(ROWS) if photos is True else photos)
    images = flat(*ROWS) * faint[:, None, None, None]
    return Session(model, found, names=names, styles=torch.tensor(ROWS), photos=images)


def gated(opened: Session) -> dict:
    """Metrics in which the strongest attribute has one gate, which is shut."""
    first = opened.found.towards(1)[0]
    same = {key: getattr(first, key) for key in ("target", "coordinate", "direction")}
    return {"attributes": [same | {"trusted": False, "artefact": True, "gates": [GATE]}]}


def run_of(path: Path, opened: Session, **metrics) -> Path:
    """A run directory with the search of a session, drawn."""
    begun(path, opened.model, **metrics)
    opened.found.save(path)
    names = [f"search {i}.png" for i in range(len(opened.found.styles))]
    with mock.patch.object(showing, "LEAST_EXAMPLES", 1):  # there are three images in all
        showing.illustrate(opened.model, opened.found, names, path)
    return path


@contextmanager
def served(paths: list[Path], sessions: list[Session], *, token: str = "") -> Iterator[str]:
    """The viewer on a free port, in a thread; given is its address."""
    app = create_app(paths, sessions, missing="no photos")
    door = Door(app, hosts=None if token else LOOPBACK, token=token)
    with listening("127.0.0.1", 0) as socket:
        config = uvicorn.Config(
            door, log_level="critical", access_log=False, lifespan="off", ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    """The file of a picture."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
