// Where the page's pictures come from: the frames that stand in it, or the server that sent it.
// Both answer the same questions; what one of them cannot answer is null, and its control hides.

// The server

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.says || `the server answered ${answer.status}`);
}

async function live() {
  const about = await (await ask("/api/runs")).json();
  const post = (run, what, body) => ask(`/api/runs/${run}/${what}`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  });
  const json = async (...given) => (await post(...given)).json();
  const knobs = (moves) => [...moves].map(([coordinate, strength]) => ({ coordinate, strength }));

  const names = about.runs.map((run) => run.name);
  about.runs.forEach((run, i) => {
    if (names.indexOf(run.name) !== names.lastIndexOf(run.name)) run.name += ` (${i + 1})`; // of two folders
  });
  about.runs.forEach((run, i) => run.images.forEach((image, j) => {
    image.thumb = { url: `/api/runs/${i}/atlas/drawn`, columns: 20, cells: run.images.length, at: j };
    if (run.photos) image.photoThumb = { ...image.thumb, url: `/api/runs/${i}/atlas/photo` };
  }));
  return {
    ...about,
    together: true,
    range: (run) => {
      const most = Math.min(2, Math.max(1, about.runs[run].strength)); // of the search; a flip goes so far
      return [-most, most, most / 16];
    },
    async edit(run, image, moves) {
      const answer = await json(run, "edit", { image, knobs: knobs(moves) });
      return { ...answer, pixels: unpacked(answer.pixels, about.runs[run].side) };
    },
    curve: (run, image, moves, coordinate) => json(run, "curve", { image, knobs: knobs(moves), coordinate }),
    flip: (run, image, moves, target, frozen) =>
      json(run, "flip", { image, knobs: knobs(moves), target, frozen: [...frozen] }),
    examples: (run, coordinate) => json(run, "examples", { coordinate }),
    say: (run, coordinate, said) => json(run, "notes", { coordinate, ...said }),
    against: (run, other) => json(run, `against/${other}`, {}),
    csv: (run) => `/api/runs/${run}/notes.csv`,
    film: async (run, image, moves, how) =>
      (await post(run, "film", { image, knobs: knobs(moves), ...how })).blob(),
    async upload(file) {
      const type = file.type.startsWith("image/") ? file.type : "image/unknown";
      const answer = await ask("/api/images", { method: "POST", headers: { "content-type": type }, body: file });
      return answer.json();
    },
  };
}

function unpacked(text, side) {
  const bytes = atob(text), pixels = new ImageData(side, side);
  for (let from = 0, to = 0; from < bytes.length; to += 4) {
    for (let c = 0; c < 3; c++) pixels.data[to + c] = bytes.charCodeAt(from++);
    pixels.data[to + 3] = 255;
  }
  return pixels;
}

// The frames in the page: one attribute at a time, on the images that are its examples

function offline({ run, csv }) {
  const images = new Map();
  for (const way of document.querySelectorAll(".way[data-coordinate]")) {
    const move = `${way.dataset.coordinate}/${way.dataset.direction}`;
    const strengths = JSON.parse(way.dataset.strengths);
    for (const figure of way.querySelectorAll(".example")) {
      const picture = figure.querySelector("img");
      if (!picture) continue;
      const film = { picture, strengths, shares: spread(figure.dataset, run.classes.length) };
      const name = figure.dataset.name;
      if (!images.has(name)) images.set(name, framed(name, film));
      images.get(name).films.set(move, film);
    }
  }
  const shown = [...images.values()];
  const filmOf = (image, coordinate, way) => shown[image].films.get(`${coordinate}/${way}`);

  function at(image, coordinate, strength) {
    const film = filmOf(image, coordinate, strength > 0 ? 1 : 0);
    if (!film) return null;
    const last = film.strengths.length - 1;
    return { film, frame: Math.round(Math.min(1, Math.abs(strength) / film.strengths[last]) * last) };
  }

  return {
    runs: [{ ...run, images: shown }],
    missing: "One attribute at a time, on the images that were drawn for it: stylex view moves several, on any image.",
    together: false,
    range: (_run, image, coordinate) => { // a step of the knob is a frame
      const [low, high] = [0, 1].map((way) => filmOf(image, coordinate, way)?.strengths);
      return [-(low?.at(-1) ?? 0), high?.at(-1) ?? 0, (low ?? high)?.[1] ?? 1];
    },
    async edit(_run, image, moves) {
      const [[coordinate, strength] = [0, 0]] = [...moves].filter(([, x]) => x);
      const still = { film: shown[image].films.values().next().value, frame: 0 };
      const { film, frame } = at(image, coordinate, strength) || still;
      await film.picture.decode();
      return { pixels: cropped(film, frame), probabilities: film.shares[frame] };
    },
    async curve(_run, image, _moves, coordinate) {
      const points = [];
      for (const way of [0, 1]) {
        const film = filmOf(image, coordinate, way);
        const sign = way ? 1 : -1;
        film?.strengths.forEach((x, i) => points.push([sign * x, film.shares[i]]));
      }
      points.sort((a, b) => a[0] - b[0]);
      return { strengths: points.map((p) => p[0]), probabilities: points.map((p) => p[1]) };
    },
    async flip(_run, image, moves, target, frozen) {
      const start = shown[image].drawn, kept = [...moves].filter(([j]) => frozen.has(j));
      if (kept.length) {
        const { film, frame } = at(image, ...kept[0]) || {};
        const flipped = largest(film ? film.shares[frame] : start) === target;
        return { moves: Object.fromEntries(kept), steps: [], flipped };
      }
      if (largest(start) === target) return { moves: {}, steps: [], flipped: true };
      for (const [move, film] of shown[image].films) {
        const [coordinate, way] = move.split("/").map(Number);
        const frame = film.shares.findIndex((shares) => largest(shares) === target);
        if (frame < 0 || frozen.has(coordinate)) continue;
        const strength = (way ? 1 : -1) * film.strengths[frame];
        const step = { coordinate, strength, probability: film.shares[frame][target] };
        return { moves: { [coordinate]: strength }, steps: [step], flipped: true };
      }
      return { moves: {}, steps: [], flipped: false };
    },
    // Which images they are stands on the cards; here is how the effects lie.
    async examples(_run, coordinate) {
      const { ways } = run.knobs.find((knob) => knob.coordinate === coordinate);
      return { ways: ways.filter((way) => way.effects.length).map((way) => ({ ...way, examples: [] })), where: null };
    },
    csv: csv ? () => `data:text/csv;charset=utf-8,${encodeURIComponent(csv)}` : null,
    say: null, against: null, film: null, upload: null,
  };
}

function framed(name, film) {
  const columns = film.strengths.length;
  const thumb = { url: film.picture.src, columns, cells: columns, at: 0 };
  return { name, photo: null, drawn: film.shares[0], l1: null, films: new Map(), thumb };
}

function spread(dataset, count) {
  const classes = JSON.parse(dataset.classes);
  return JSON.parse(dataset.all).map((row) => {
    const shares = new Array(count).fill(null);
    classes.forEach((k, i) => { shares[k] = row[i]; });
    return shares;
  });
}

function cropped({ picture, strengths }, frame) {
  const side = picture.naturalWidth / strengths.length;
  const canvas = new OffscreenCanvas(side, side), pen = canvas.getContext("2d");
  pen.drawImage(picture, frame * side, 0, side, side, 0, 0, side, side);
  return pen.getImageData(0, 0, side, side);
}

function largest(shares) {
  return shares.reduce((best, share, k) => (share !== null && share > (shares[best] ?? -1) ? k : best), 0);
}
