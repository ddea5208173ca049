// The bench: a gallery, and for each run a desk with an image, its knobs and what they do.

const $ = (selector, within = document) => within.querySelector(selector);
const said = JSON.parse($("#data").textContent);
let source, desks = [], chosen = -1;

function tell(says) { $("#bench-says").textContent = says; }

// What nobody waits for may fail: the line above the gallery says why.
const safely = (work) => async (...given) => {
  try { await work(...given); } catch (error) { tell(error.message); }
};

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
    const says = decision(classes, image.drawn), photo = image.photo && decision(classes, image.photo);
    const thumbs = [photo && image.photoThumb, image.thumb].filter(Boolean).map(thumbnail);
    const lines = photo ? [photo, `→ ${says}`] : [says];
    const label = `${image.name}: ${photo ? `photo ${photo}, ` : ""}redrawn ${says}`;
    return make("div", {
      role: "option", id: `image-${image.i}`, onclick: () => choose(image.i), "aria-label": label, title: label,
    }, ...thumbs, ...lines.map((line) => make("span", { class: "says" }, line)));
  }));
  mark();
}

// The image of the desks; an image of one's own is none of the gallery, which Tab must reach still
function mark() {
  const options = [...$("#gallery").children], own = options.find((option) => option.id === `image-${chosen}`);
  for (const option of options) {
    option.setAttribute("aria-selected", String(option === own));
    option.tabIndex = option === (own ?? options[0]) ? 0 : -1;
  }
}

const choose = safely(async (image, own) => {
  chosen = image;
  tell(source.missing);
  mark();
  await Promise.all(desks.map((desk) => desk.open(image, own?.[desk.number] ?? desk.run.images[image])));
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
  const own = answers.map((answer, i) => ({ ...answer, name: file.name, pixels: unpacked(answer.pixels, source.runs[i].side) }));
  await choose(own[0].image, own);
  tell(`${file.name}: error of its reconstruction ${answers[0].l1.toFixed(3)}. It is kept in memory only.`);
});

// Runs side by side, each with each

const compare = safely(async () => {
  const all = [...source.runs.keys()], tables = [];
  $("#compared").replaceChildren(make("p", { class: "note" }, "Measuring …"));
  for (const [a, b] of all.flatMap((a) => all.filter((b) => b !== a).map((b) => [a, b]))) {
    const own = source.runs[a], other = source.runs[b];
    const rows = (await source.against(a, b)).map((one) => make("tr", { class: one.used[0] && !one.used[1] ? "marked" : "" },
      make("th", { scope: "row" }, `${desks[a].nameOf(one.coordinate)}, ${one.direction ? "high" : "low"} end`),
      ...[one.own, one.other].map((e) => make("td", {}, e === null ? "no such class" : e.toFixed(2))),
      make("td", {}, one.used[0] ? (one.used[1] ? "both" : `only ${own.name}`) : one.used[1] ? `only ${other.name}` : "neither")));
    const head = make("tr", {}, ...["attribute", own.name, other.name, "used by"].map((h) => make("th", { scope: "col" }, h)));
    tables.push(make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": `Attributes of ${own.name}` },
      make("table", {}, make("caption", {}, `Attributes of ${own.name}: mean effect on each classifier in logits; used is above 0.2`),
        make("thead", {}, head), make("tbody", {}, ...rows))));
  }
  $("#compared").replaceChildren(...tables);
  tell(source.runs.map((run) => run.name).join(" beside "));
});

async function begin() {
  source = said.live ? await live() : offline(said);
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
  $("#file").addEventListener("change", ({ target }) => {
    bring(target.files[0]);
    target.value = ""; // the same file again is a change then
  });
  $("#compare").addEventListener("click", compare);
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => { event.preventDefault(); if (source.upload) bring(event.dataTransfer.files[0]); });
  $("#bench").hidden = $(".bench-link").hidden = false;
  hang();
  if (said.live) callAll(source.runs[said.page].notes);
  await choose(0);
  for (const desk of desks) if (desk.focus !== null) desk.study(desk.focus);
  document.documentElement.dataset.bench = "ready";
}

begin().catch((error) => { $("#bench").hidden = false; tell(error.message); });
