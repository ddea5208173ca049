// Small drawings: elements, canvases, bars, curves. They know nothing of where numbers come from.

function make(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...inside); // text stays text: nothing is ever parsed as HTML
  return made;
}

const SVG = document.querySelector("#desk").content.querySelector("svg").namespaceURI;

function vector(name, attributes, ...inside) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

function paint(canvas, pixels) {
  if (canvas.width !== pixels.width) canvas.width = canvas.height = pixels.width;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function decision(classes, probabilities) {
  const k = largest(probabilities);
  return `${classes[k]} ${percent(probabilities[k])}`;
}

// Gray where nothing changes, as the maps of the report: full at a change of half the range.
function difference(before, after) {
  const map = new ImageData(before.width, before.height);
  for (let i = 0; i < map.data.length; i++) {
    map.data[i] = i % 4 === 3 ? 255 : 127.5 + after.data[i] - before.data[i];
  }
  return map;
}

function split(before, after, share) {
  const both = new ImageData(new Uint8ClampedArray(after.data), after.width);
  const side = after.width, edge = Math.round(side * share);
  for (let y = 0; y < side; y++) {
    const start = 4 * y * side;
    both.data.set(before.data.subarray(start, start + 4 * edge), start);
  }
  return both;
}

// One cell of a picture of many. A background: hundreds of moved and cut <img> slow every frame down.
function thumbnail({ url, columns, cells, at }) {
  const rows = Math.ceil(cells / columns), place = (i, n) => `${n > 1 ? (100 * i) / (n - 1) : 0}%`;
  const thumb = make("span", { class: "thumb" });
  thumb.style.backgroundImage = `url("${url}")`;
  thumb.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
  thumb.style.backgroundPosition = `${place(at % columns, columns)} ${place(Math.floor(at / columns), rows)}`;
  return thumb;
}

const SHARES = 8; // classes shown of many

function shares(classes, before, after) {
  const known = classes.map((_, k) => k).filter((k) => after[k] !== null);
  const most = (k) => Math.max(before[k] ?? 0, after[k]);
  known.sort((a, b) => most(b) - most(a));
  return known.slice(0, SHARES).sort((a, b) => a - b).map((k) => {
    const track = make("span", { class: "track", "aria-hidden": "true" }, make("span", { class: "fill" }), make("span", { class: "was" }));
    track.style.setProperty("--now", after[k]);
    track.style.setProperty("--was", before[k] ?? 0);
    const says = make("span", { class: "share" }, percent(after[k]), make("span", { class: "note" }, ` was ${percent(before[k] ?? 0)}`));
    return make("div", { class: "share-line" }, make("span", { class: "class-name" }, classes[k]), track, says);
  });
}

function curve({ strengths, probabilities }, target, now, says) {
  const right = 276, left = 36, x = (s) => left + ((right - left) * (s - low)) / (high - low || 1);
  const low = Math.min(-1, ...strengths), high = Math.max(1, ...strengths), y = (p) => 110 - 100 * p;
  const points = strengths.map((s, i) => `${x(s).toFixed(1)},${y(probabilities[i][target] ?? 0).toFixed(1)}`);
  const text = (at, to, anchor, words) => vector("text", { x: at, y: to, "text-anchor": anchor }, words);
  return vector(
    "svg", { viewBox: "0 0 280 130", role: "img", "aria-label": says },
    vector("line", { x1: left, x2: right, y1: 110, y2: 110, class: "axis" }),
    vector("line", { x1: left, x2: right, y1: 60, y2: 60, class: "axis" }),
    vector("line", { x1: x(now), x2: x(now), y1: 10, y2: 110, class: "here" }),
    vector("polyline", { points: points.join(" "), class: "line-0" }),
    text(31, 14, "end", "100\u00a0%"), text(31, 113, "end", "0"),
    text(left, 125, "start", low.toString()), text(x(0), 125, "middle", "0"), text(right, 125, "end", high.toString()),
  );
}

function histogram(values, says) {
  const bins = 24, most = Math.max(...values.map(Math.abs), 0.01);
  const counts = new Array(bins).fill(0);
  for (const v of values) counts[Math.min(bins - 1, Math.floor(((v + most) / (2 * most)) * bins))]++;
  const top = Math.max(...counts), width = 240 / bins;
  const columns = counts.map((n, i) => vector("rect", {
    x: (20 + i * width).toFixed(1), width: (width - 1).toFixed(1), y: (60 - (50 * n) / top).toFixed(1),
    height: ((50 * n) / top).toFixed(1), class: i < bins / 2 ? "fall" : "rise",
  }));
  const text = (x, anchor, words) => vector("text", { x, y: 74, "text-anchor": anchor }, words);
  return vector(
    "svg", { viewBox: "0 0 280 80", role: "img", "aria-label": says }, ...columns,
    vector("line", { x1: 20, x2: 260, y1: 60, y2: 60, class: "axis" }),
    text(20, "start", `\u2212${most.toFixed(1)}`), text(140, "middle", "0"), text(260, "end", `+${most.toFixed(1)} logits`),
  );
}

// A strip of what is shown, with words below each picture: what "Save as PNG" saves.
function strip(pictures, side = 256) {
  const gap = 12, canvas = make("canvas");
  canvas.width = pictures.length * (side + gap) - gap;
  canvas.height = side + 44; // room for two lines
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingEnabled = false;
  pictures.forEach(({ canvas: shown, lines }, i) => {
    pen.drawImage(shown, i * (side + gap), 0, side, side);
    pen.fillStyle = "#1d1f21";
    pen.font = "14px system-ui, sans-serif";
    lines.forEach((line, n) => pen.fillText(line, i * (side + gap), side + 18 + 18 * n, side));
  });
  return canvas;
}

function download(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
