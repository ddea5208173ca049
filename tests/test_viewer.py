"""The viewer's API over a real socket: what it answers, and what it refuses."""

import asyncio
import json
import random
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from attacks import (
    BAD,
    PATHS,
    POSTS,
    STRANGERS,
    as_written,
    broken,
    fitting,
    malformed,
    schemas,
    valid,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from viewing import contents, encoded, run_of, served, session

from stylex.door import IMAGE_BYTES, JSON_BYTES, LOOPBACK, Door
from stylex.notes import read_notes
from stylex.runs import Run, read_json
from stylex.session import Session
from stylex.viewer import create_app, listening, open_sessions, view

EVIL = "<script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run that was searched, in closed form."""
    return run_of(tmp_path_factory.mktemp("runs") / "quarters", session())


@pytest.fixture(scope="module")
def api(folder):
    """A client of the viewer, as a script on this machine would be."""
    with (
        served([folder, folder], [session(), session(photos=True)]) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        yield client


def refused(answer: httpx.Response, status: int | None = None) -> str:
    """The one line of a refusal; anything else fails."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:200])
    assert status in (None, answer.status_code)
    says = answer.json()["says"]
    assert says
    assert "\n" not in says
    assert "Traceback" not in says
    return says


# What it answers


def test_the_page_is_the_report_and_may_only_ask_its_own_server(api):
    """The policy allows no inline code beyond the page's own, by hash."""
    page = api.get("/")
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "What decides between" in page.text
    assert '"live": true' in page.text
    assert '"page": 1' in api.get("/runs/1").text
    for name, value in (("x-content-type-options", "nosniff"), ("cache-control", "no-store")):
        assert page.headers[name] == value


def test_all_runs_are_described(api):
    """Knobs with both ends, images with probabilities, and what is missing in words."""
    about = api.get("/api/runs").json()
    first, second = about["runs"]
    assert about["missing"] == "no photos"
    assert (first["classes"], first["side"]) == (["no", "yes"], 32)
    knob = next(knob for knob in first["knobs"] if knob["coordinate"] == 0)
    assert {way["direction"]: way["target"] for way in knob["ways"]} == {0: 0, 1: 1}
    assert (first["photos"], second["photos"]) == (False, True)
    assert [image["photo"] for image in first["images"]] == [None] * 3
    assert api.get("/api/runs/1/atlas/photo").headers["content-type"] == "image/webp"
    assert "--data" in refused(api.get("/api/runs/0/atlas/photo"), 404)


def test_moves_curves_flips_and_films(api):
    """The session's numbers go through unchanged."""
    opened, knobs = session(), [{"coordinate": 0, "strength": 0.5}]
    body = {"image": 0, "knobs": knobs}

    def ask(what: str, **more):
        return api.post(f"/api/runs/0/{what}", json=body | more)

    assert ask("edit").json() == opened.edit(0, {0: 0.5})
    assert ask("curve", coordinate=1).json() == asyncio.run(opened.curve(0, {0: 0.5}, 1))
    flipped = opened.flip(0, {0: 0.5}, 1, [0])
    answer = ask("flip", target=1, frozen=[0]).json()
    assert answer == flipped | {"moves": {str(j): x for j, x in flipped["moves"].items()}}
    assert ask("film", format="GIF", title="x").content[:6] == b"GIF89a"
    assert ask("film", format="WEBP").content[8:12] == b"WEBP"
    assert api.post("/api/runs/0/examples", json={"coordinate": 0}).json() == asyncio.run(
        opened.examples(0)
    )
    assert len(api.post("/api/runs/0/against/1").json()) == len(opened.found.attributes)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_an_image_of_any_common_kind_is_encoded_in_every_run(api, folder, kind):
    """It gets one number in all runs, can be edited at once, and is not written."""
    before = contents(folder)
    photo = encoded(Image.new("RGB", (45, 60), (200, 200, 200)), kind)
    first, second = api.post(
        "/api/images", content=photo, headers={"content-type": "image/x"}
    ).json()
    assert first["image"] == second["image"] >= 3
    edited = api.post("/api/runs/1/edit", json={"image": first["image"]}).json()
    assert edited["probabilities"] == second["drawn"]
    assert contents(folder) == before


def test_names_are_saved_at_once_and_stand_everywhere(tmp_path):
    """In the run, in the API, in the table, on the report and escaped."""
    run, opened = run_of(tmp_path / "run", session()), session()
    with served([run], [opened]) as address, httpx.Client(base_url=address) as client:
        said = {"coordinate": 0, "name": EVIL, "note": "=cmd()", "mark": "confounder"}
        assert client.post("/api/runs/0/notes", json=said).json()["0"]["name"] == EVIL
        assert read_notes(run)[0]["mark"] == "confounder"
        assert client.get("/api/runs").json()["runs"][0]["notes"]["0"]["note"] == "=cmd()"
        table = client.get("/api/runs/0/notes.csv")
        assert "'=cmd()" in table.text
        assert "attachment" in table.headers["content-disposition"]
    app = create_app([run], [opened])
    assert EVIL not in app.state.runs[0].page
    assert "&lt;script&gt;document.title" in app.state.runs[0].page


def test_two_people_name_one_attribute(tmp_path):
    """One says its name; the other, whose page is older, its mark only: both stand."""
    run = run_of(tmp_path / "run", session())
    with served([run], [session()]) as address, httpx.Client(base_url=address) as client:
        for said in ({"name": "brown spots"}, {"mark": "expected"}, {"note": "old leaves"}):
            answer = client.post("/api/runs/0/notes", json={"coordinate": 0, **said})
        told = {key: answer.json()["0"][key] for key in ("name", "mark", "note")}
        assert told == {"name": "brown spots", "mark": "expected", "note": "old leaves"}
        client.post("/api/runs/0/notes", json={"coordinate": 0, "name": ""})
        assert read_notes(run)[0]["name"] == ""
        assert read_notes(run)[0]["mark"] == "expected"


def test_a_name_stands_in_the_files_of_its_attribute_at_once(tmp_path):
    """Both directions of the coordinate, each in its file and above its animation; no other."""
    run = run_of(tmp_path / "run", session())
    with served([run], [session()]) as address, httpx.Client(base_url=address) as client:
        said = {"coordinate": 0, "name": "white above", "mark": "expected"}
        assert client.post("/api/runs/0/notes", json=said).is_success
    named = 0
    for file in Run(run).attributes.glob("*/attribute.json"):
        about, own = read_json(file), read_json(file)["coordinate"] == 0
        assert (about.get("name"), about.get("mark")) == (
            ("white above", "expected") if own else (None, None)
        )
        if (film := file.with_name("before_after.gif")).is_file():
            with Image.open(film) as opened:
                assert opened.info.get("comment") == (b"white above (expected)" if own else None)
                named += own
    assert named == 2


def test_five_people_at_once_lose_no_request(api):
    """Every one of their moves is answered, and rightly."""
    opened = session()

    async def person(client: httpx.AsyncClient, image: int) -> list[bool]:
        right = []
        for i in range(12):
            moves = {0: i / 12, 1: -i / 12}
            knobs = [{"coordinate": j, "strength": x} for j, x in moves.items()]
            body = {"image": image, "knobs": knobs}
            answer = await client.post("/api/runs/0/edit", json=body)
            right.append(answer.json() == opened.edit(image, moves))
        return right

    async def people() -> list[list[bool]]:
        async with httpx.AsyncClient(base_url=api.base_url, timeout=30) as client:
            return await asyncio.gather(*(person(client, i % 3) for i in range(5)))

    assert all(all(right) for right in asyncio.run(people()))


def test_the_end_of_an_answer_does_not_wait():
    """A connection sends at once: held back for an acknowledgement, each move took 40 ms longer."""
    with (
        listening("127.0.0.1", 0) as server,
        socket.create_connection(server.getsockname()) as _visitor,
        server.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# What it refuses


@pytest.mark.parametrize(
    "path",
    PATHS,
)
def test_no_path_leads_anywhere(api, path):
    """Nothing is served from the disk, so there is nowhere to climb."""
    answer = as_written(api, path)
    assert answer.request.extensions["target"] == path.encode()
    refused(answer)


@pytest.mark.parametrize(
    "headers",
    STRANGERS,
    ids=str,
)
def test_other_sites_and_other_names_are_refused(api, folder, headers):
    """A page of somebody else cannot ask, nor can a name that was bent to this address."""
    before = contents(folder)
    body = {"coordinate": 0, "name": "x"}
    refused(api.post("/api/runs/0/notes", json=body, headers=headers), 403)
    refused(api.get("/api/runs", headers=headers), 403)
    assert contents(folder) == before


def test_the_own_page_is_let_in(api):
    """With the headers that a browser sends from it."""
    address = str(api.base_url).rstrip("/")
    own = {"origin": address, "sec-fetch-site": "same-origin"}
    assert api.post("/api/runs/0/edit", json={"image": 0}, headers=own).is_success
    named = {"host": address.removeprefix("http://").replace("127.0.0.1", "localhost")}
    assert api.get("/", headers=named).is_success


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_common_image_is_refused(api, folder, kind):
    """Whatever it calls itself; nothing is written."""
    before = contents(folder)
    headers = {"content-type": "image/png"}
    says = refused(api.post("/api/images", content=BAD[kind], headers=headers), 422)
    assert "<" not in says
    assert contents(folder) == before


def test_an_upload_must_say_that_it_is_an_image(api):
    """A form of another site cannot: a browser would ask first, and is refused."""
    photo = encoded(Image.new("RGB", (9, 9)))
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/json"):
        refused(api.post("/api/images", content=photo, headers={"content-type": kind}), 422)
    refused(api.options("/api/images", headers={"origin": "http://evil.example"}), 403)


def test_nobody_waits_while_an_image_is_decoded(folder, monkeypatch):
    """A knob is answered in the middle of somebody's upload, which then ends well."""
    begun, answered, decode = threading.Event(), threading.Event(), Session.decode

    def slow(self: Session, file: bytes) -> torch.Tensor:
        begun.set()
        assert answered.wait(20)
        return decode(self, file)

    monkeypatch.setattr(Session, "decode", slow)
    photo, kind = encoded(Image.new("RGB", (9, 9))), {"content-type": "image/png"}
    with (
        served([folder], [session()]) as address,
        httpx.Client(base_url=address, timeout=10) as client,
        ThreadPoolExecutor(1) as elsewhere,
    ):
        waits = elsewhere.submit(client.post, "/api/images", content=photo, headers=kind)
        assert begun.wait(10)
        edit = client.post("/api/runs/0/edit", json={"image": 0, "knobs": []})
        assert (edit.status_code, waits.done()) == (200, False)
        answered.set()
        assert waits.result(20).json()[0]["image"] == 3


@pytest.mark.parametrize(
    ("path", "most"), [("/api/images", IMAGE_BYTES), ("/api/runs/0/notes", JSON_BYTES)]
)
def test_too_much_is_refused(api, folder, path, most):
    """By what it says of its length, and by what comes where it does not say; it is not kept."""
    before, headers = contents(folder), {"content-type": "image/png"}

    def drops():
        for _ in range(most // 50_000 + 2):
            yield bytes(50_000)

    for body in (bytes(most + 1), drops()):
        answer = None
        with suppress(httpx.WriteError, httpx.ReadError):  # it hung up while more was sent
            answer = api.post(path, content=body, headers=headers)
        assert answer is None or refused(answer, 413)
    assert contents(folder) == before
    assert api.get("/").is_success


@pytest.mark.parametrize(
    ("path", "most"), [("/api/images", IMAGE_BYTES), ("/api/runs/0/notes", JSON_BYTES)]
)
def test_too_much_is_told_before_it_is_sent(api, path, most):
    """The length alone is enough: there is an answer before a byte of the body came."""
    host, port = api.base_url.host, api.base_url.port
    head = f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: {most + 1}\r\n\r\n"
    with socket.create_connection((host, port), timeout=10) as visitor:
        visitor.sendall(head.encode())
        assert visitor.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_thousand_malformed_bodies_do_nothing(api, folder):
    """Each is refused with a 4xx and a line; the server lives and nothing is written."""
    before, chance = contents(folder), random.Random(0)
    for i in range(1000):
        what = POSTS[i % len(POSTS)]
        body = malformed(what, chance)
        headers = {"content-type": "application/json"}
        answer = api.post(f"/api/runs/0/{what}", content=body, headers=headers)
        assert 400 <= answer.status_code < 500, (what, body[:200], answer.status_code)
        refused(answer)
    assert contents(folder) == before
    assert api.get("/").is_success


@pytest.fixture(scope="module")
def schema(folder):
    """What the API says of itself; it is not served."""
    return create_app([folder], [session()]).openapi()


def sent(api, path: str, body) -> httpx.Response:
    """The answer to a body as JSON, which may hold what `httpx` would refuse to write."""
    headers = {"content-type": "application/json"}
    return api.post(path.format(run=0), content=json.dumps(body).encode(), headers=headers)


@pytest.mark.slow
def test_what_the_schema_refuses_is_refused(api, folder, schema):
    """Another type, out of bounds, one key too few or too many, anywhere in a body: no trace."""
    before = contents(folder)

    @settings(max_examples=1000)
    @given(st.sampled_from(POSTS), st.data())
    def each(what, data):
        path = f"/api/runs/{{run}}/{what}"
        body = data.draw(broken(schemas(schema)[path], schema))
        refused(sent(api, path, body), 422)

    each()
    assert contents(folder) == before


@settings(max_examples=60)
@given(st.sampled_from(POSTS), st.data())
def test_what_the_schema_takes_is_answered(api, schema, what, data):
    """Or it names an image, a class or a coordinate that is not there."""
    path = f"/api/runs/{{run}}/{what}"
    body = data.draw(fitting(schemas(schema)[path], schema))
    if what == "notes":
        body["coordinate"] += 3  # none of the attributes: nothing may be written here
    answer = sent(api, path, body)
    assert answer.is_success or refused(answer, 404)


def test_right_bodies_are_taken(tmp_path):
    """Every one, so that a refusal above says something."""
    run = run_of(tmp_path / "run", session())
    with served([run], [session()]) as address, httpx.Client(base_url=address) as client:
        for what in POSTS:
            assert sent(client, f"/api/runs/0/{what}", valid(what)).status_code == 200


def test_the_schema_names_every_path(schema):
    """The attacks above know all of them."""
    paths = schema["paths"]
    assert set(schemas(schema)) == {f"/api/runs/{{run}}/{what}" for what in POSTS}
    posts = {path for path, ways in paths.items() if "post" in ways}
    assert posts == {"/api/images", "/api/runs/{run}/against/{other}"} | {
        f"/api/runs/{{run}}/{what}" for what in POSTS
    }


def test_an_open_door_asks_for_its_token(folder):
    """Once in the address, then in a cookie that scripts do not see; a wrong one is refused."""
    with served([folder], [session()], token="right-token") as address:
        with httpx.Client(base_url=address) as stranger:
            for path in ("/", "/?token=wrong", "/?token=", "/api/runs", "/?token=%ff"):
                assert "token" in refused(stranger.get(path), 401)
            refused(stranger.post("/api/runs/0/edit?token=right-token", json={"image": 0}), 401)
            refused(stranger.get("/", headers={"cookie": "stylex=r%C3%A4"}), 401)
        with httpx.Client(base_url=address) as guest:
            welcome = guest.get("/?token=right-token")
            assert (welcome.status_code, welcome.headers["location"]) == (303, "/")
            assert {"HttpOnly", "SameSite=Lax"} <= set(welcome.headers["set-cookie"].split("; "))
            assert guest.get("/").is_success
            assert guest.post("/api/runs/0/edit", json={"image": 0}).is_success


def test_two_doors_of_one_machine_do_not_share_a_cookie():
    """Browsers tell cookies apart by the host, not by its port."""
    one, other = (Door(lambda *_: None, token=token) for token in ("first", "second"))
    assert one.cookie != other.cookie
    assert "first" not in one.cookie
    for more in ("", 'prefs={"a":1}; ', "theme; ", "a b=1; "):  # of other servers of the host
        assert one._knows({"cookie": f"{more}{one.cookie}=first"})
        assert not one._knows({"cookie": f"{more}{other.cookie}=first; {one.cookie}=second"})


def test_a_door_without_names_or_token_is_a_mistake():
    """It would let everybody in."""
    with pytest.raises(AssertionError):
        Door(lambda *_: None, hosts=None)


# The command


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"run": ("nowhere",)}, "is not a run"),
        ({"run": ()}, "0 runs came"),
        ({"run": ("a",) * 9}, "9 runs came"),
        ({"run": ("a", "b"), "classifier": ("x",)}, "one --classifier for each --run"),
        ({"run": ("a",), "images": 0}, "images is 0"),
    ],
)
def test_bad_options_are_one_line(options, says):
    """As for every command."""
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        view(**options)
    assert "\n" not in str(caught.value)


def started(monkeypatch, **options) -> tuple[Door, str]:
    """The door that `view` opens, and the address at which it listens; nothing is served."""
    seen = []
    monkeypatch.setattr("stylex.viewer.open_sessions", lambda *_, **__: ([session()], ""))
    monkeypatch.setattr(
        "uvicorn.Server.run",
        lambda self, sockets: seen.append((self.config.app, sockets[0].getsockname()[0])),
    )
    view(port=0, **options)
    return seen[0]


def test_by_itself_it_listens_on_this_machine_only(folder, monkeypatch, capsys):
    """No token is needed, and no other name is answered to."""
    door, where = started(monkeypatch, run=(str(folder),))
    assert (where, door.hosts, door.token) == ("127.0.0.1", LOOPBACK, "")
    assert "token" not in capsys.readouterr().out


def test_open_to_the_network_it_prints_one_token(folder, monkeypatch, capsys):
    """A new one each time, long enough, printed once, and it is the one that the door asks for."""
    tokens = []
    for _ in range(2):
        door, where = started(monkeypatch, run=(str(folder),), host="0.0.0.0")
        assert (where, door.hosts) == ("0.0.0.0", None)
        assert len(door.token) >= 32
        printed = capsys.readouterr().out
        assert printed.count(door.token) == printed.count("token") == 1
        assert printed.rstrip().endswith(f"/?token={door.token}")
        tokens.append(door.token)
    assert tokens[0] != tokens[1]


def test_runs_that_were_searched_on_other_images_want_the_same_data(tmp_path, monkeypatch):
    """Trained on the same ones, as many: their digests tell."""

    def searched_on(path, **_):
        opened = session()
        opened.found = replace(opened.found, made={"searched": [Path(path).name[:1]]})
        return opened

    monkeypatch.setattr("stylex.session.Session.open", searched_on)
    paths = [run_of(tmp_path / name, session()) for name in ("a1", "a2", "b1")]
    options = {"data": None, "images": 9, "classifiers": ()}
    assert len(open_sessions(paths[:2], **options)[0]) == 2
    with pytest.raises(ValueError, match="searched on other images"):
        open_sessions(paths[1:], **options)


def test_runs_of_other_images_want_the_same_data(tmp_path, monkeypatch):
    """Side by side they must show the same images."""
    monkeypatch.setattr("stylex.session.Session.open", lambda path, **_: session())
    paths = [run_of(tmp_path / name, session()) for name in "ab"]
    options = {"data": None, "images": 9, "classifiers": ()}
    opened, missing = open_sessions(paths, **options)
    assert len(opened) == 2
    assert "--data adds photos" in missing
    text = (paths[1] / "run.json").read_text()
    (paths[1] / "run.json").write_text(text.replace("0" * 64, "1" * 64))
    with pytest.raises(ValueError, match="searched on other images"):
        open_sessions(paths, **options)


def test_a_run_that_is_not_whole_is_one_line(tmp_path):
    """Files of a stranger may hold anything."""
    run = run_of(tmp_path / "run", session())
    (run / "search.json").write_text('{"attributes": [{"target": 0}]}')
    with pytest.raises(ValueError, match="is not a whole run") as caught:
        create_app([run], [session()])
    assert "\n" not in str(caught.value)


def test_without_its_packages_the_command_says_what_to_install():
    """In one line."""
    code = (
        "import sys\nsys.modules['fastapi'] = None\n"
        "sys.argv = ['stylex', 'view', '--run', 'x']\n"
        "from stylex.cli import main\nmain()"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 2
    assert "pip install 'stylex[view]'" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_the_app_imports_no_torch():
    """It knows of models only what a session answers."""
    code = "import sys, stylex.viewer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
