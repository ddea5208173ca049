// The bench: a gallery, and for each run a desk with an image, its knobs and what they do.

const $ = (selector, within = document) => within.querySelector(selector);
const said = JSON.parse($("#data").textContent);
let source, desks = [], chosen = -1;

function tell(says) { $("#bench-says").textContent = says; }

// What nobody waits for may fail: the line above the gallery says why.
const safely = (work) => async (...given) => {
  try { await work(...given); } catch (error) { tell(error.message); }
};

class Desk {
  constructor(number, run) {
    this.number = number;
    this.run = run;
    this.moves = new Map(); // coordinate: strength
    this.frozen = new Set();
    this.view = "after";
    this.focus = run.knobs[0]?.coordinate ?? null;
    this.root = $("#desk").content.cloneNode(true).firstElementChild;
    this.rows = new Map(run.knobs.map((knob) => [knob.coordinate, this.row(knob)]));
    this.furnish();
  }

  $(selector) { return $(selector, this.root); }

  // Furniture

  furnish() {
    this.$("h3").textContent = this.run.name;
    this.$("h3").hidden = source.runs.length < 2;
    this.$(".knobs").append(...[...this.rows.values()].map((row) => row.item));
    this.$(".target").append(...this.run.classes.map((name, k) => make("option", { value: k }, name)));
    this.$(".target").addEventListener("change", () => this.settle());
    this.$(".reset").addEventListener("click", () => this.reset());
    this.$(".flip").addEventListener("click", safely(() => this.flip()));
    this.$(".split-at input").addEventListener("input", () => this.paint());
    for (const button of this.root.querySelectorAll("[data-view]")) {
      button.addEventListener("click", () => this.look(button.dataset.view));
    }
    for (const button of this.root.querySelectorAll("[data-save]")) {
      const kind = button.dataset.save;
      button.hidden = !source.film && (kind === "GIF" || kind === "WEBP");
      button.addEventListener("click", safely(() => this.save(kind)));
    }
    this.$(".csv").hidden = !source.csv;
    if (source.csv) this.$(".csv").href = source.csv(this.number);
    if (!this.run.knobs.length) this.$(".flip-says").textContent = "The search found no attribute to move.";
  }

  row(knob) {
    const ends = [0, 1].map((direction) => knob.ways.find((way) => way.direction === direction));
    const end = (way) => make("span", { class: "end" }, way?.effect > 0 ? this.run.classes[way.target] : "");
    const slider = make("input", { type: "range", min: -1, max: 1, step: 0.0625, value: 0,
      oninput: () => this.turn(knob.coordinate, Number(slider.value)) });
    const title = make("button", { type: "button", class: "about", "aria-expanded": "false",
      onclick: () => this.study(knob.coordinate) });
    const freeze = make("input", { type: "checkbox", onchange: () => this.freeze(knob.coordinate, freeze.checked) });
    const value = make("output", {}, "0");
    const standing = knob.ways[0].standing;
    const item = make("li", { class: "knob" },
      make("div", { class: "knob-head" }, title,
        make("span", { class: `stands ${standing}` }, standing === "untried" ? "" : standing),
        make("label", { class: "freeze" }, freeze, "freeze")),
      make("div", { class: "knob-line" }, end(ends[0]), slider, end(ends[1]), value));
    return { knob, item, slider, title, freeze, value };
  }

  nameOf(coordinate) {
    const way = this.rows.get(coordinate).knob.ways[0];
    const plain = `Attribute ${way.rank} towards ${this.run.classes[way.target]}`;
    return this.run.notes[coordinate]?.name || plain;
  }

  label() {
    for (const [coordinate, { title, slider, freeze }] of this.rows) {
      const name = this.nameOf(coordinate);
      title.textContent = name;
      title.setAttribute("aria-expanded", String(coordinate === this.focus));
      slider.setAttribute("aria-label", name);
      freeze.setAttribute("aria-label", `Freeze ${name}`);
    }
  }

  // An image and its moves

  async open(image, photo) {
    this.image = image;
    this.moves.clear();
    for (const [coordinate, { slider }] of this.rows) {
      const [low, high] = source.range(this.number, image, coordinate);
      Object.assign(slider, { min: low, max: high, disabled: low === high });
    }
    this.$(".flip-says").textContent = "";
    const start = await source.edit(this.number, image, new Map());
    this.before = this.after = start;
    this.$("figure.photo").hidden = !photo;
    if (photo) await this.photograph(photo);
    const decided = largest(start.probabilities);
    this.$(".target").value = this.run.classes.findIndex((_, k) => k !== decided);
    this.show();
    await this.settle();
  }

  async photograph({ pixels, thumb }) {
    const canvas = this.$("figure.photo canvas");
    if (pixels) return paint(canvas, pixels);
    const atlas = new Image();
    atlas.src = thumb.url;
    await atlas.decode();
    const side = this.run.side;
    canvas.width = canvas.height = side;
    const x = thumb.at % thumb.columns, y = Math.floor(thumb.at / thumb.columns);
    canvas.getContext("2d").drawImage(atlas, x * side, y * side, side, side, 0, 0, side, side);
  }

  turn(coordinate, strength) {
    if (!source.together) this.moves.clear();
    if (strength) this.moves.set(coordinate, strength); else this.moves.delete(coordinate);
    if (this.focus !== coordinate) this.study(coordinate);
    this.$(".flip-says").textContent = "";
    return this.ask(performance.now());
  }

  reset() {
    for (const coordinate of [...this.moves.keys()]) {
      if (!this.frozen.has(coordinate)) this.moves.delete(coordinate);
    }
    this.$(".flip-says").textContent = "";
    return this.ask(performance.now());
  }

  freeze(coordinate, on) {
    this.rows.get(coordinate).slider.classList.toggle("frozen", on);
    if (on) this.frozen.add(coordinate); else this.frozen.delete(coordinate);
  }

  // One question at a time; what is asked meanwhile waits as the newest only.
  async ask(since) {
    this.since ??= since;
    this.levels();
    if (this.asking) { this.again = true; return; }
    this.asking = true;
    try {
      do {
        this.again = false;
        const began = this.since;
        this.since = null;
        this.after = await source.edit(this.number, this.image, this.moves);
        this.show();
        document.dispatchEvent(new CustomEvent("drawn", { detail: performance.now() - began }));
      } while (this.again);
    } catch (error) { tell(error.message); } finally { this.asking = false; }
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.settle(), 120);
  }

  levels() {
    for (const [coordinate, { slider, value }] of this.rows) {
      const strength = this.moves.get(coordinate) ?? 0;
      slider.value = strength;
      value.textContent = strength ? strength.toFixed(2).replace("-", "\u2212") : "0";
    }
  }

  show() {
    this.levels();
    paint(this.$("figure.before canvas"), this.before.pixels);
    this.paint();
    this.$(".shares").replaceChildren(...shares(this.run.classes, this.before.probabilities, this.after.probabilities));
  }

  paint(beforeNow = false) {
    const { before: { pixels: b }, after: { pixels: a } } = this;
    const drawn = this.view === "difference" ? difference(b, a)
      : this.view === "split" ? split(b, a, this.$(".split-at input").value / 100)
        : beforeNow ? b : a;
    paint(this.$("figure.after canvas"), drawn);
  }

  look(view) {
    const again = view === "flicker" && this.view === "flicker";
    clearInterval(this.timer);
    if (again && !still.matches) view = "after";
    this.view = view;
    for (const button of this.root.querySelectorAll("[data-view]")) {
      button.setAttribute("aria-pressed", String(button.dataset.view === view));
    }
    this.$(".split-at").hidden = view !== "split";
    const names = { after: "Changed", split: "Left before, right after", difference: "Difference: gray is no change", flicker: "Before and after" };
    this.$("figure.after figcaption").textContent = names[view];
    this.paint();
    if (view !== "flicker") return;
    const swap = () => this.paint((this.swapped = !this.swapped));
    swap(); // with reduced motion one swap a press: nothing moves by itself
    if (!still.matches) this.timer = setInterval(swap, FLICKER_MS);
  }

  // What takes longer: after a pause

  settle = safely(async () => {
    if (this.focus === null) return;
    const target = Number(this.$(".target").value), { image, focus } = this;
    const points = await source.curve(this.number, image, this.moves, focus);
    if (image !== this.image || focus !== this.focus) return;
    const name = `Probability of ${this.run.classes[target]} over the strength of “${this.nameOf(focus)}”`;
    const drawn = points.strengths.length ? curve(points, target, this.moves.get(focus) ?? 0, name) : "";
    this.$(".curve").replaceChildren(make("figcaption", {}, name), drawn);
  });

  async flip() {
    const target = Number(this.$(".target").value), name = this.run.classes[target];
    this.$(".flip-says").textContent = "Looking …";
    const answer = await source.flip(this.number, this.image, this.moves, target, this.frozen);
    this.moves = new Map(Object.entries(answer.moves).map(([j, x]) => [Number(j), x]));
    const steps = answer.steps.map((s) => `${this.nameOf(s.coordinate)} (${percent(s.probability)})`);
    const count = `${steps.length} attribute${steps.length === 1 ? "" : "s"}`;
    this.$(".flip-says").textContent = !answer.flipped
      ? `It cannot be flipped to ${name} with ${this.frozen.size ? "what is not frozen" : "these attributes"}${steps.length ? `; nearest: ${steps.join(", ")}` : ""}.`
      : steps.length ? `Decided as ${name} with ${count}: ${steps.join(", ")}.` : `It is decided as ${name} already.`;
    await this.ask(performance.now());
  }

  // One attribute in detail

  study = safely(async (coordinate) => {
    this.focus = coordinate;
    this.label();
    const { knob } = this.rows.get(coordinate);
    const parts = [make("h4", {}, this.nameOf(coordinate)), this.naming(coordinate), facts(knob, this.run)];
    const more = make("div", { class: "both-ways" });
    this.$(".detail").replaceChildren(...parts, more);
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.settle(), 120);
    if (!source.examples) return;
    clearTimeout(this.looking);
    this.looking = setTimeout(safely(async () => {
      const found = await source.examples(this.number, coordinate);
      if (coordinate === this.focus) more.replaceChildren(...bothWays(found, this.run));
    }), 300);
  });

  naming(coordinate) {
    const note = this.run.notes[coordinate] ?? { name: "", note: "", mark: "" };
    if (!source.say) {
      const words = [note.name, note.mark, note.note].filter(Boolean).join(" · ");
      return make("p", { class: "note" }, words || "Nobody has named it yet.");
    }
    const name = make("input", { type: "text", maxlength: 60, value: note.name, placeholder: "what changes, in your words" });
    const text = make("input", { type: "text", maxlength: 1000, value: note.note });
    const mark = make("select", {}, make("option", { value: "" }, "no mark"), ...this.run.marks.map((m) => make("option", { value: m }, m)));
    mark.value = note.mark;
    const kept = make("span", { class: "note", role: "status" });
    const save = safely(async () => {
      this.run.notes = await source.say(this.number, coordinate, { name: name.value, note: text.value, mark: mark.value });
      kept.textContent = "saved";
      this.label();
      if (said.page === this.number) callAll(this.run.notes);
    });
    for (const field of [name, text, mark]) field.addEventListener("change", save);
    return make("div", { class: "naming" }, make("label", {}, "Name ", name), make("label", {}, "Note ", text), make("label", {}, "It is ", mark), kept);
  }

  // Saving what is shown

  async save(kind) {
    const name = `${this.run.name}-${chosen + 1}`.replace(/[^\w.-]+/g, "-");
    const title = [...this.moves.keys()].map((j) => this.nameOf(j)).join(", ").slice(0, 60);
    if (kind === "GIF" || kind === "WEBP") {
      return download(await source.film(this.number, this.image, this.moves, kind, title), `${name}.${kind.toLowerCase()}`);
    }
    if (kind === "JSON") {
      const text = JSON.stringify(this.record(), null, 1);
      return download(new Blob([text], { type: "application/json" }), `${name}.json`);
    }
    const { before, after } = this, target = Number(this.$(".target").value);
    const lines = (what, { probabilities: p }) => [what, `${this.run.classes[target]} ${percent(p[target] ?? 0)}`];
    const canvas = strip([
      { pixels: before.pixels, lines: lines("reconstruction", before) },
      { pixels: after.pixels, lines: lines(title || "unchanged", after) },
      { pixels: difference(before.pixels, after.pixels), lines: ["difference", "gray is no change"] },
    ]);
    canvas.toBlob((blob) => download(blob, `${name}.png`));
  }

  record() {
    const shown = ({ probabilities }) => Object.fromEntries(this.run.classes.map((c, k) => [c, probabilities[k]]));
    const image = this.run.images[this.image];
    return {
      run: this.run.name, image: image?.name ?? "an image of one's own", photo: image?.photo ?? null,
      reconstruction: shown(this.before), changed: shown(this.after),
      moves: [...this.moves].map(([coordinate, strength]) => ({ coordinate, strength, ...this.run.notes[coordinate], attribute: this.nameOf(coordinate) })),
      frozen: [...this.frozen],
    };
  }
}

function facts(knob, run) {
  const parts = [];
  for (const way of knob.ways) {
    const high = way.direction ? "high" : "low";
    const pairs = [
      ["Towards", run.classes[way.target]], ["Coordinate", `${knob.coordinate}, ${high} end`],
      ["Where", `layer ${way.layer}, ${way.resolution} px`], ["Mean effect", `${way.effect.toFixed(2)} logits`],
      ["Changes", `${percent(way.share)} of the images`], ["Standing", way.standing],
    ];
    const list = make("dl", { class: "facts" }, ...pairs.map(([k, v]) => make("div", {}, make("dt", {}, k), make("dd", {}, v))));
    const gates = way.gates.map((gate) => make("li", {},
      make("span", { class: `mark ${gate.passed ? "passed" : gate.passed === false ? "failed" : ""}` },
        gate.passed ? "\u2713 " : gate.passed === false ? "\u2717 " : "? "),
      `${gate.name}: ${gate.says}`));
    parts.push(make("div", {}, list, make("ul", { class: "reasons" }, ...gates), make("a", { href: `#${way.id}` }, "its card")));
  }
  return make("div", { class: "both" }, ...parts);
}

function bothWays({ ways, where }, run) {
  const parts = ways.map((way) => {
    const name = run.classes[way.target], end = way.direction ? "high" : "low";
    const title = `Towards its ${end} end: effects on ${name}, ${way.effects.length} images`;
    const pairs = way.examples.map((example) => make("figure", { class: "pair" },
      ...["before", "after"].map((when) => {
        const canvas = make("canvas", { role: "img", "aria-label": when });
        paint(canvas, unpacked(example[when], run.side));
        return canvas;
      }),
      make("figcaption", {}, `${example.effect >= 0 ? "+" : "\u2212"}${Math.abs(example.effect).toFixed(2)}`)));
    return make("div", { class: "one-way" }, make("h5", {}, title), histogram(way.effects, title), make("div", { class: "pairs" }, ...pairs));
  });
  if (where) {
    const canvas = make("canvas", { role: "img", "aria-label": "Where the attribute acts" });
    paint(canvas, unpacked(where, run.side));
    parts.push(make("figure", { class: "where" }, canvas, make("figcaption", {}, "Where it acts: mean change, white is its largest")));
  }
  return parts;
}

// Names stand on the cards too

function callAll(notes) {
  for (const line of document.querySelectorAll(".called")) {
    const note = notes[line.dataset.coordinate];
    line.classList.toggle("unsaid", !note);
    $(".its-name", line).textContent = note?.name ?? "";
    $(".its-mark", line).textContent = note?.mark ?? "";
    $(".its-mark", line).className = `its-mark ${note?.mark ?? ""}`;
    $(".its-note", line).textContent = note?.note ?? "";
  }
}

// The gallery

const far = (a, b) => Math.max(...a.map((x, k) => Math.abs(x - b[k])));
const ORDERS = {
  order: () => 0,
  confidence: (a, b) => Math.max(...b.drawn) - Math.max(...a.drawn),
  disagreement: (a, b) => far(b.photo, b.drawn) - far(a.photo, a.drawn),
  class: (a, b) => largest(a.drawn) - largest(b.drawn) || Math.max(...b.drawn) - Math.max(...a.drawn),
};

function hang() {
  const { images, classes } = source.runs[0];
  const sorted = images.map((image, i) => ({ ...image, i })).sort(ORDERS[$("#sort").value]);
  $("#gallery").replaceChildren(...sorted.map((image) => {
    const k = largest(image.drawn), says = `${classes[k]} ${percent(image.drawn[k])}`;
    const photo = image.photo && `photo ${classes[largest(image.photo)]} ${percent(Math.max(...image.photo))}, `;
    return make("div", {
      role: "option", id: `image-${image.i}`, tabindex: image.i === chosen ? 0 : -1, "aria-selected": String(image.i === chosen),
      "aria-label": `${image.name}: ${photo || ""}redrawn ${says}`, onclick: () => choose(image.i),
    }, ...[image.photoThumb, image.thumb].filter(Boolean).map(thumbnail), make("span", { class: "says" }, says));
  }));
}

const choose = safely(async (image, photo) => {
  chosen = image;
  tell(source.missing);
  for (const option of $("#gallery").children) {
    const own = option.id === `image-${image}`;
    option.setAttribute("aria-selected", String(own));
    option.tabIndex = own ? 0 : -1;
  }
  const kept = (run) => run.images[image]?.photoThumb && { thumb: run.images[image].photoThumb };
  await Promise.all(desks.map((desk) => desk.open(image, photo?.[desk.number] ?? kept(desk.run))));
});

function walk(event) {
  const options = [...$("#gallery").children], here = options.indexOf(document.activeElement);
  const row = Math.max(1, options.filter((o) => o.offsetTop === options[0].offsetTop).length);
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row, Home: -here, End: options.length - 1 - here };
  if (here < 0) return;
  if (event.key === "Enter" || event.key === " ") options[here].click();
  else if (event.key in steps) options[Math.min(options.length - 1, Math.max(0, here + steps[event.key]))].focus();
  else return;
  event.preventDefault();
}

const bring = safely(async (file) => {
  if (!file) return;
  tell(`Encoding ${file.name} …`);
  const answers = await source.upload(file);
  const photos = answers.map((answer, i) => ({ pixels: unpacked(answer.pixels, source.runs[i].side) }));
  await choose(answers[0].image, photos);
  tell(`${file.name}: error of its reconstruction ${answers[0].l1.toFixed(3)}. It is kept in memory only.`);
});

// Two runs

const compare = safely(async () => {
  const [first, second] = source.runs, tables = [];
  $("#compared").replaceChildren(make("p", { class: "note" }, "Measuring …"));
  for (const [a, b] of [[0, 1], [1, 0]]) {
    const own = source.runs[a], other = source.runs[b];
    const rows = (await source.against(a, b)).map((one) => make("tr", { class: one.used[0] && !one.used[1] ? "marked" : "" },
      make("th", { scope: "row" }, `${desks[a].nameOf(one.coordinate)}, ${one.direction ? "high" : "low"} end`),
      ...[one.own, one.other].map((e) => make("td", {}, e === null ? "no such class" : e.toFixed(2))),
      make("td", {}, one.used[0] ? (one.used[1] ? "both" : `only ${own.name}`) : "neither here")));
    const head = make("tr", {}, ...["attribute", own.name, other.name, "used by"].map((h) => make("th", { scope: "col" }, h)));
    tables.push(make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": `Attributes of ${own.name}` },
      make("table", {}, make("caption", {}, `Attributes of ${own.name}: mean effect on each classifier in logits; used is above 0.2`),
        make("thead", {}, head), make("tbody", {}, ...rows))));
  }
  $("#compared").replaceChildren(...tables);
  tell(`${first.name} beside ${second.name}`);
});

async function begin() {
  source = said.live ? await live() : offline(said.run);
  if (!source.runs[0].images.length) return; // nothing was drawn: the report says why
  desks = source.runs.map((run, i) => new Desk(i, run));
  $("#desks").append(...desks.map((desk) => desk.root));
  $("#desks").classList.toggle("many", desks.length > 1);
  const photos = source.runs[0].photos;
  $("#sort [value=disagreement]").hidden = $("#sort [value=disagreement]").disabled = !photos;
  $("#gallery").classList.toggle("pairs", Boolean(photos));
  $("#own").hidden = !source.upload;
  $("#between").hidden = !source.against || desks.length < 2;
  $("#sort").addEventListener("change", hang);
  $("#gallery").addEventListener("keydown", walk);
  $("#file").addEventListener("change", (event) => bring(event.target.files[0]));
  $("#compare").addEventListener("click", compare);
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => { event.preventDefault(); if (source.upload) bring(event.dataTransfer.files[0]); });
  $("#bench").hidden = $(".bench-link").hidden = false;
  hang();
  if (said.live) callAll(source.runs[said.page].notes);
  for (const desk of desks) if (desk.focus !== null) desk.study(desk.focus);
  await choose(0);
  document.documentElement.dataset.bench = "ready";
}

begin().catch((error) => { $("#bench").hidden = false; tell(error.message); });
