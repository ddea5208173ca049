"""What the viewer must refuse: for its tests, and for the benchmark that counts the refusals."""

import json
import random
import struct
import zlib
from itertools import cycle
from typing import Any

import httpx
from hypothesis import strategies as st
from PIL import Image
from viewing import encoded

POSTS = ("edit", "curve", "flip", "examples", "film", "notes")
PATHS = [
    "/../../etc/passwd",
    "/..%2f..%2fetc%2fpasswd",
    "/runs/..%2f..%2frun.json",
    "/runs/0/../../run.json",
    "/api/runs/0/atlas/..%2f..%2frun.json",
    "/api/runs/%2e%2e/edit",
    "/run.json",
    "/report.html",
    "/openapi.json",
    "/docs",
    "/runs/7",
    "/runs/-1",
    "/runs/99999999999999999999999",
    "/api/runs/0/edit",
]
STRANGERS = [
    {"host": "evil.example"},
    {"host": "evil.example:80"},
    {"host": "127.0.0.1.evil.example"},
    {"host": ""},
    {"host": "[::1"},
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


def as_written(client: httpx.Client, path: str) -> httpx.Response:
    """The answer to a GET of exactly this path: `httpx` by itself takes `..` out of it."""
    target = {"target": path.encode()}
    return client.send(client.build_request("GET", "/", extensions=target))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rest = chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rest


BAD = {
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "html": b"<!doctype html><script>alert(1)</script>",
    "html behind a PNG's signature": b"\x89PNG\r\n\x1a\n<html><script>alert(1)</script>",
    "nothing": b"",
    "noise": bytes(range(256)) * 20,
    "bomb": bomb(50_000, 50_000),
    "smaller bomb": bomb(8_000, 8_000),
    "half a PNG": encoded(Image.effect_noise((64, 64), 50))[:900],
    "tiff": encoded(Image.new("RGB", (8, 8)), "TIFF"),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "tar": b"photo.png" + bytes(600),
}


def valid(what: str) -> dict:
    """A body that is taken."""
    edit = {"image": 0, "knobs": [{"coordinate": 0, "strength": 0.5}]}
    return {
        "edit": edit,
        "curve": edit | {"coordinate": 1},
        "flip": edit | {"target": 1, "frozen": [1]},
        "examples": {"coordinate": 0},
        "film": edit | {"format": "GIF", "title": "x"},
        "notes": {"coordinate": 0, "name": "x", "note": "y", "mark": ""},
    }[what]


WRONG = [{"coordinate": 0}, [{"coordinate": 0, "strength": 9}], [[]], [], {}, None, True,
         -1, 2**70, 1e308, 0.5, float("nan"), float("inf")]  # fmt: skip
RAW = [b"", b"{", b"[" * 5000, b"\xff\xfe", b'{"image": ' + b"9" * 5000 + b"}", b"null", b"0",
       b'"x"', b'{"image": 0, "image": "x"}', b"\x00" * 40, b"{}garbage", b'{"image":1e999}',
       b'{"image": 0, "coordinate": 0, "name": "\\ud800", "mark": "?"}']  # fmt: skip


def malformed(what: str, chance: random.Random) -> bytes:
    """A body that is nearly right: something is missing, too much, of another kind, or no JSON."""
    if chance.random() < 0.15:
        return chance.choice(RAW)
    body = valid(what)
    key = chance.choice(list(body))
    way = chance.randrange(4)
    if way == 0:
        body[chance.choice(["extra", "__proto__", "run", "path"])] = chance.choice(WRONG)
    elif way == 1 and key in ("image", "coordinate", "target", "format"):
        body["image" if "image" in body else "coordinate"] = None
    elif way == 2 and "knobs" in body:
        body["knobs"] = [{"coordinate": chance.choice([3, -1, "0"]), "strength": 0.5}] * 3
    else:
        numbers = [value for value in WRONG if type(value) is not int or value not in (0, 3)]
        body[key] = chance.choice(
            [value for value in numbers if not isinstance(value, str)] + [7.5]
        )
        if key in ("knobs", "frozen") and body[key] == []:
            body[key] = 7
    return json.dumps(body).encode()


Schema = dict[str, Any]


def schemas(api: Schema) -> dict[str, Schema]:
    """Path of everything that takes JSON, and the schema of its body."""
    bodies = {path: ways.get("post", {}).get("requestBody") for path, ways in api["paths"].items()}
    return {
        path: body["content"]["application/json"]["schema"] for path, body in bodies.items() if body
    }


def fitting(schema: Schema, api: Schema) -> st.SearchStrategy:
    """Values that a schema takes; whatever says no bound is an error here."""
    schema = _meant(schema, api)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "object":
        parts = {key: fitting(part, api) for key, part in schema["properties"].items()}
        needed = {key: parts.pop(key) for key in schema.get("required", [])}
        return st.fixed_dictionaries(needed, optional=parts)
    if schema["type"] == "array":
        return st.lists(fitting(schema["items"], api), max_size=min(3, schema["maxItems"]))
    if schema["type"] == "string":
        return st.text(max_size=schema["maxLength"])
    kind = {"integer": st.integers, "number": st.floats}[schema["type"]]
    return kind(schema["minimum"], schema["maximum"])


def broken(schema: Schema, api: Schema) -> st.SearchStrategy:
    """Values that a schema refuses: another type, out of bounds, too long, too much, too little."""
    schema = _meant(schema, api)
    if schema.get("type") == "object":
        return _broken_object(schema, api)
    if schema["type"] == "array":
        item, most = fitting(schema["items"], api), schema["maxItems"]
        lists = st.builds(lambda one: [one] * (most + 1), item)
        return NOTHING | st.text() | lists | st.lists(broken(schema["items"], api), min_size=1)
    if schema["type"] == "string":
        if "enum" in schema:
            return NOTHING | st.integers() | st.text().filter(lambda t: t not in schema["enum"])
        return NOTHING | st.integers() | st.just("x" * (schema["maxLength"] + 1))
    low, high = schema["minimum"], schema["maximum"]
    outside = st.integers(max_value=int(low) - 1) | st.integers(min_value=int(high) + 1)
    halves = st.just(low + 0.5) if schema["type"] == "integer" else st.just(float("nan"))
    return NOTHING | st.text() | st.just(str(low)) | outside | halves


NOTHING = st.none() | st.booleans() | st.just({"a": 1})


def _broken_object(schema: Schema, api: Schema) -> st.SearchStrategy:
    whole, properties = fitting(schema, api), schema["properties"]
    names = st.text().filter(lambda name: name not in properties)
    wrong = [
        st.tuples(whole, broken(part, api)).map(lambda two, key=key: two[0] | {key: two[1]})
        for key, part in properties.items()
    ]
    less = [
        whole.map(lambda body, key=key: {k: v for k, v in body.items() if k != key})
        for key in schema["required"]
    ]
    more = st.tuples(whole, names, NOTHING).map(lambda three: three[0] | {three[1]: three[2]})
    return st.one_of(st.none(), st.lists(st.integers()), more, *less, *wrong)


def _meant(schema: Schema, api: Schema) -> Schema:
    """What a reference refers to."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return api["components"]["schemas"][name] if name else schema


def attack(address: str, *, bodies: int = 1000) -> dict[str, int]:
    """All of them against a server: how many were tried, and refused with a 4xx and one line."""
    chance = random.Random(0)
    as_png, as_json = ({"content-type": kind} for kind in ("image/png", "application/json"))
    name, posts = {"coordinate": 0, "name": "x"}, [f"/api/runs/0/{what}" for what in POSTS]
    with httpx.Client(base_url=address, timeout=60) as client:
        tried = [as_written(client, path) for path in PATHS]
        tried += [client.post(posts[-1], json=name, headers=headers) for headers in STRANGERS]
        tried += [client.post("/api/images", content=f, headers=as_png) for f in BAD.values()]
        for _, what, path in zip(range(bodies), cycle(POSTS), cycle(posts), strict=False):
            tried += [client.post(path, content=malformed(what, chance), headers=as_json)]
        lines = [a.json()["says"] for a in tried if 400 <= a.status_code < 500]
        assert client.get("/").is_success  # it still lives
    refused = sum(bool(line) and "\n" not in line for line in lines)
    return {"attacks_tried": len(tried), "attacks_refused": refused}
