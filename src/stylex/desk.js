// A desk: one run with an image, its knobs and what they do.

const PAUSE_MS = 250;
const VIEWS = {
  after: "Changed", split: "Left before, right after", difference: "Difference: gray is no change", flicker: "Before and after",
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

  get target() { return Number(this.$(".target").value); }

  get edge() { return this.$(".split-at input").value / 100; }

  // Furniture

  furnish() {
    this.$("h3").textContent = this.run.name;
    this.$("h3").hidden = source.runs.length < 2;
    this.$(".knobs").append(...[...this.rows.values()].map((row) => row.item));
    this.$(".target").append(...this.run.classes.map((name, k) => make("option", { value: k }, name)));
    this.$(".target").addEventListener("change", () => { this.levels(); this.later(); });
    this.$(".reset").addEventListener("click", () => { this.release(); this.ask(performance.now()); });
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

  // With its mark, as on saved pictures
  captionOf(coordinate) {
    const mark = this.run.notes[coordinate]?.mark;
    return this.nameOf(coordinate) + (mark ? ` (${mark})` : "");
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

  async open(image, about) {
    this.image = image;
    this.release();
    for (const [coordinate, row] of this.rows) {
      const [min, max, step] = source.range(this.number, image, coordinate), x = this.moves.get(coordinate);
      row.still = min === max;
      Object.assign(row.slider, row.still ? { min: -1, max: 1 } : { min, max, step });
      row.slider.title = row.still ? "not drawn on this image" : "";
      if (x < min || x > max) this.moves.delete(coordinate);
    }
    this.hold();
    const before = await source.edit(this.number, image, new Map());
    const after = this.moves.size ? await source.edit(this.number, image, this.moves) : before;
    if (image !== this.image) return; // another one was chosen meanwhile
    Object.assign(this, { about, before, after });
    const decided = largest(before.probabilities);
    this.$(".target").value = this.run.classes.findIndex((_, k) => k !== decided);
    paint(this.$("figure.before canvas"), before.pixels);
    this.$("figure.before figcaption").textContent = `Reconstruction: ${decision(this.run.classes, before.probabilities)}`;
    this.show();
    await this.photograph(about);
    this.later();
  }

  async photograph(about) {
    const { photo, pixels, photoThumb } = about;
    this.$("figure.photo").hidden = !photo;
    if (!photo) return;
    this.$("figure.photo figcaption").textContent = `Photo: ${decision(this.run.classes, photo)}`;
    const canvas = this.$("figure.photo canvas");
    if (pixels) return paint(canvas, pixels);
    const atlas = new Image();
    atlas.src = photoThumb.url;
    await atlas.decode();
    if (about !== this.about) return;
    const side = this.run.side, { at, columns } = photoThumb;
    canvas.width = canvas.height = side;
    canvas.getContext("2d").drawImage(atlas, (at % columns) * side, Math.floor(at / columns) * side, side, side, 0, 0, side, side);
  }

  turn(coordinate, strength) {
    if (!source.together) this.moves.clear();
    if (strength) this.moves.set(coordinate, strength); else this.moves.delete(coordinate);
    this.ask(performance.now());
    this.focus = coordinate;
    this.$(".flip-says").textContent = "";
  }

  // All back to rest but what is frozen
  release() {
    for (const coordinate of [...this.moves.keys()]) {
      if (!this.frozen.has(coordinate)) this.moves.delete(coordinate);
    }
    this.$(".flip-says").textContent = "";
  }

  freeze(coordinate, on) {
    if (on) this.frozen.add(coordinate); else this.frozen.delete(coordinate);
    this.hold();
  }

  hold() {
    const only = !source.together && [...this.moves.keys()].some((j) => this.frozen.has(j)); // one at a time
    for (const [coordinate, { slider, still }] of this.rows) {
      slider.disabled = only || still || this.frozen.has(coordinate);
    }
  }

  // One question at a time; what is asked meanwhile waits as the newest only.
  async ask(since) {
    this.since ??= since;
    this.levels();
    if (this.asking) { this.again = true; return; }
    this.asking = true;
    clearTimeout(this.rest);
    try {
      do {
        this.again = false;
        const began = this.since, { image } = this;
        this.since = null;
        const after = await source.edit(this.number, image, this.moves);
        if (image !== this.image) continue; // another one was chosen meanwhile
        this.after = after;
        this.show();
        document.dispatchEvent(new CustomEvent("drawn", { detail: performance.now() - began }));
      } while (this.again);
    } catch (error) { tell(error.message); } finally { this.asking = false; }
    this.later();
  }

  levels() {
    const p = this.after?.probabilities[this.target] ?? null;
    const says = p === null ? "" : `, ${this.run.classes[this.target]} ${percent(p)}`;
    for (const [coordinate, { slider, value }] of this.rows) {
      const strength = this.moves.get(coordinate) ?? 0;
      const text = strength ? strength.toFixed(2).replace("-", "\u2212") : "0";
      if (Number(slider.value) !== strength) slider.value = strength; // what is touched is painted again
      if (value.textContent !== text) value.textContent = text;
      slider.setAttribute("aria-valuetext", `strength ${text}${says}`);
    }
  }

  show() {
    this.levels();
    this.paint();
    this.$(".shares").replaceChildren(...shares(this.run.classes, this.before.probabilities, this.after.probabilities));
  }

  paint(beforeNow = false) {
    const { before: { pixels: b }, after: { pixels: a } } = this;
    const drawn = this.view === "difference" ? difference(b, a)
      : this.view === "split" ? split(b, a, this.edge)
        : beforeNow ? b : a;
    paint(this.$("figure.after canvas"), drawn);
    const says = this.view === "after" ? `: ${decision(this.run.classes, this.after.probabilities)}` : "";
    this.$("figure.after figcaption").textContent = VIEWS[this.view] + says;
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
    this.paint();
    if (view !== "flicker") return;
    const swap = () => this.paint((this.swapped = !this.swapped));
    swap(); // with reduced motion one swap a press: nothing moves by itself
    if (!still.matches) this.timer = setInterval(swap, FLICKER_MS);
  }

  // What takes longer, after a pause: a move that came meanwhile would have to wait for it

  later() {
    clearTimeout(this.rest);
    if (!this.asking) this.rest = setTimeout(() => this.settle(), PAUSE_MS); // else the move's end does
  }

  settle = safely(async () => {
    if (this.focus === null) return;
    if (this.studied !== this.focus) this.describe();
    const { target, image, focus } = this;
    const points = await source.curve(this.number, image, this.moves, focus);
    if (image !== this.image || focus !== this.focus) return;
    const name = `Probability of ${this.run.classes[target]} over the strength of “${this.nameOf(focus)}”`;
    const drawn = points.strengths.length ? curve(points, target, this.moves.get(focus) ?? 0, name) : "";
    this.$(".curve").replaceChildren(make("figcaption", {}, name), drawn);
    const { examples } = this;
    if (this.asking) return; // after the next pause
    this.examples = null; // once for each attribute in hand
    await examples?.();
  });

  async flip() {
    const { target, image } = this, name = this.run.classes[target];
    this.$(".flip-says").textContent = "Looking …";
    const answer = await source.flip(this.number, this.image, this.moves, target, this.frozen);
    if (image !== this.image) return; // another one was chosen while this one was looked at
    this.moves = new Map(Object.entries(answer.moves).map(([j, x]) => [Number(j), x]));
    const steps = answer.steps.map((s) => `${this.nameOf(s.coordinate)} (${percent(s.probability)})`);
    const count = `${steps.length} attribute${steps.length === 1 ? "" : "s"}`;
    this.$(".flip-says").textContent = !answer.flipped
      ? `It cannot be flipped to ${name} with ${this.frozen.size ? "what is not frozen" : "these attributes"}${source.together ? "" : ", one at a time"}${steps.length ? `; nearest: ${steps.join(", ")}` : ""}.`
      : steps.length ? `Decided as ${name} with ${count}: ${steps.join(", ")}.` : `It is decided as ${name} already.`;
    await this.ask(performance.now());
  }

  // One attribute in detail

  study(coordinate) {
    this.focus = coordinate;
    this.describe();
    this.later();
  }

  describe() {
    const coordinate = this.studied = this.focus;
    this.label();
    const { knob } = this.rows.get(coordinate);
    const parts = [make("h4", {}, this.nameOf(coordinate)), this.naming(coordinate), facts(knob, this.run, this.number)];
    const more = make("div", { class: "both-ways" });
    this.$(".detail").replaceChildren(...parts, more);
    this.examples = async () => {
      const found = await source.examples(this.number, coordinate);
      if (coordinate === this.studied) more.replaceChildren(...bothWays(found, this.run));
    };
  }

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
    const save = (key, field) => safely(async () => {
      this.run.notes = await source.say(this.number, coordinate, { [key]: field.value }); // the rest may be another person's
      kept.textContent = "saved";
      this.label();
      if (said.page === this.number) callAll(this.run.notes);
    });
    for (const [key, field] of Object.entries({ name, note: text, mark })) field.addEventListener("change", save(key, field));
    return make("div", { class: "naming" }, make("label", {}, "Name ", name), make("label", {}, "Note ", text), make("label", {}, "It is ", mark), kept);
  }

  // Saving what is shown

  async save(kind) {
    const name = `${this.run.name}-${chosen + 1}`.replace(/[^\w.-]+/g, "-");
    const title = [...this.moves.keys()].map((j) => this.captionOf(j)).join(", ").slice(0, 100);
    if (kind === "GIF" || kind === "WEBP") {
      return download(await source.film(this.number, this.image, this.moves, { format: kind, title, view: this.view, edge: this.edge }), `${name}.${kind.toLowerCase()}`);
    }
    if (kind === "JSON") {
      const text = JSON.stringify(this.record(), null, 1);
      return download(new Blob([text], { type: "application/json" }), `${name}.json`);
    }
    this.paint(); // in the middle of a flicker too the changed one
    const figures = [...this.root.querySelectorAll(".frames figure:not([hidden])")];
    const shown = figures.map((figure) => ({ canvas: $("canvas", figure), lines: [$("figcaption", figure).textContent] }));
    shown.at(-1).lines.push(`${title || "unchanged"}: ${decision(this.run.classes, this.after.probabilities)}`);
    strip(shown).toBlob((blob) => download(blob, `${name}.png`));
  }

  record() {
    const shown = (probabilities) => probabilities && Object.fromEntries(this.run.classes.map((c, k) => [c, probabilities[k]]));
    return {
      run: this.run.name, image: this.about.name, photo: shown(this.about.photo),
      reconstruction: shown(this.before.probabilities), changed: shown(this.after.probabilities), view: this.view,
      moves: [...this.moves].map(([coordinate, strength]) => ({ coordinate, strength, ...this.run.notes[coordinate], attribute: this.captionOf(coordinate) })),
      frozen: [...this.frozen],
    };
  }
}

function facts(knob, run, number) {
  const parts = [], page = said.live && said.page !== number ? `/runs/${number}` : ""; // of its cards
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
    parts.push(make("div", {}, list, make("ul", { class: "reasons" }, ...gates), make("a", { href: `${page}#${way.id}` }, "its card")));
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
