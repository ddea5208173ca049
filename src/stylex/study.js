"use strict";
// One question at a time. Answers are kept in this browser until they are downloaded or deleted;
// everyone begins at another question, so that nobody's tiredness falls on the same ones.

const get = (id) => document.getElementById(id);
const about = JSON.parse(get("study").textContent);
const items = [...document.querySelectorAll("fieldset.item")];
const form = get("items");
const place = `stylex-${about.study}-${about.form}`;
const moved = matchMedia("(prefers-reduced-motion: reduce)");

let state = load() || {
  participant: [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join(""),
  simulated: location.hash === "#simulated",
  still: moved.matches,
  position: 0,
  answers: {},
};
const first = () => parseInt(state.participant.slice(0, 8), 16) % items.length;
const shown = (position) => items[(first() + position) % items.length];
const count = () => Object.keys(state.answers).length;

function load() {
  try { return JSON.parse(localStorage.getItem(place)); } catch { return null; }
}

function keep() {
  try {
    localStorage.setItem(place, JSON.stringify(state));
  } catch {
    get("kept").textContent = "This browser keeps nothing: please finish in one go and download your answers.";
  }
}

function forget() {
  if (!confirm("Delete your answers from this browser? This cannot be undone.")) return;
  localStorage.removeItem(place);
  location.reload();
}

function only(section) {
  for (const one of [get("consent"), form, get("end")]) one.hidden = one !== section;
  scrollTo(0, 0);
}

function ask(position) {
  state.position = position;
  const now = shown(position);
  for (const item of items) item.disabled = item.hidden = item !== now;  // what is disabled is neither checked nor read
  get("where").textContent = `Question ${position + 1} of ${items.length}`;
  get("back").disabled = position === 0;
  progress();
  only(form);
  now.querySelector("legend").focus();
}

function progress() {
  const bar = document.querySelector("progress");
  bar.max = items.length;
  bar.value = count();
}

function read() {
  const item = shown(state.position);
  const said = [...new FormData(form)].map(([name, value]) => [name.split("-")[0], value.trim()]);
  const answer = Object.fromEntries(said.filter(([, value]) => value));
  if (Object.keys(answer).length) state.answers[item.name] = answer;
  else delete state.answers[item.name];
  keep();
}

// Whether a file holds answers that this very form has given: it names only what stands here.
function ours(file) {
  const plain = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const fits = ([name, answer]) => items.some((item) => item.name === name) && plain(answer)
    && Object.entries(answer).every(([part, value]) => /^[a-z]+$/.test(part) && typeof value === "string");
  return plain(file) && ["version", "study", "form"].every((what) => file[what] === about[what])
    && /^[0-9a-f]{16}$/.test(file.participant) && plain(file.answers) && Object.entries(file.answers).every(fits);
}

async function goOn(event) {
  const chosen = event.target.files[0];
  if (!chosen) return;
  let file = null;
  try { file = JSON.parse(await chosen.text()); } catch { /* no JSON: refused below */ }
  event.target.value = "";  // the same file may be chosen again
  if (!ours(file)) {
    get("kept").textContent = `“${chosen.name}” holds no answers to this form; choose the file that this page gave you.`;
  } else if (!count() || confirm("Replace the answers that this browser holds by those of the file?")) {
    const { participant, simulated, still, answers } = file;
    state = { participant, simulated: simulated === true, still: still === true, position: 0, answers };
    state.position = Math.max(0, items.findIndex((_, at) => !answers[shown(at).name]));
    welcome(`The file holds ${count()} of your ${items.length} answers: agree, and go on.`);
    keep();
  }
}

function welcome(says) {
  hold(state.still || moved.matches);
  restore();
  get("simulated").hidden = !state.simulated;
  if (!count()) return;
  get("kept").textContent = says;
  document.querySelector("#agreement .main").textContent = "Go on";
  document.querySelector("#agreement .forget").hidden = false;
}

function restore() {
  form.reset();
  for (const item of items) {
    for (const [part, value] of Object.entries(state.answers[item.name] || {})) {
      for (const field of item.querySelectorAll(`[name="${part}-${item.name}"]`)) {
        if (field.type === "radio" || field.type === "checkbox") field.checked = field.value === value;
        else field.value = value;
      }
    }
    check(item);
  }
}

function check(item) {
  const words = item.querySelector("input.words");
  if (!words) return;
  const hard = item.querySelector("input[type=checkbox]").checked;
  if (hard) words.value = "";
  words.readOnly = hard;
  words.required = !hard;
  const many = words.value.trim().split(/\s+/).length > 4;
  words.setCustomValidity(many ? "Please use four words at most." : "");
}

function end() {
  read();
  get("answered").textContent = `You answered ${count()} of ${items.length} questions.`;
  only(get("end"));
  get("end-title").focus();
}

function hold(still) {
  document.documentElement.classList.toggle("held", still);
  get("still").setAttribute("aria-pressed", String(still));
  state.still = still;
}

function download() {
  const { participant, simulated, still, answers } = state;
  const file = { version: about.version, study: about.study, form: about.form, participant, simulated, still, of: items.length, answers };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(file, null, 1)], { type: "application/json" }));
  link.download = `${simulated ? "simulated" : "answers"}-${about.form}-${participant.slice(0, 6)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

get("agreement").addEventListener("submit", (event) => {
  event.preventDefault();
  ask(Math.min(state.position, items.length - 1));
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  read();
  if (state.position + 1 < items.length) ask(state.position + 1);
  else end();
  keep();
});
form.addEventListener("input", (event) => { check(event.target.closest("fieldset")); read(); progress(); });
get("back").addEventListener("click", () => { read(); ask(state.position - 1); });
get("stop").addEventListener("click", end);
get("return").addEventListener("click", () => ask(state.position));
get("still").addEventListener("click", () => { hold(!state.still); keep(); });
get("download").addEventListener("click", download);
for (const button of document.querySelectorAll(".forget")) button.addEventListener("click", forget);
moved.addEventListener("change", () => hold(moved.matches));

get("saved").addEventListener("change", goOn);

welcome(`This browser holds ${count()} of your ${items.length} answers.`);
