"use strict";
// Moves all examples of one attribute through their frames, which lie side by side in one picture.
// Without scripts, and in print, the frames simply stand in a row.

const FLICKER_MS = 600;
const still = matchMedia("(prefers-reduced-motion: reduce)");

function percent(probability) {
  const value = 100 * probability;
  const close = (value > 0 && value < 1) || (value > 99 && value < 100);
  return value.toFixed(close ? 1 : 0) + "\u00a0%";
}

function prepare(way) {
  const slider = way.querySelector("input[type=range]");
  const said = way.querySelector(".strength");
  const button = way.querySelector("button");
  const strengths = JSON.parse(way.dataset.strengths);
  const last = strengths.length - 1;
  const examples = [...way.querySelectorAll(".example")].map((figure) => ({
    film: figure.querySelector(".film"),
    now: figure.querySelector(".now"),
    flips: figure.querySelector(".flips"),
    probabilities: JSON.parse(figure.dataset.probabilities),
    flipped: JSON.parse(figure.dataset.flipped),
  }));
  let timer = 0;

  function show(frame) {
    const spoken = [];
    for (const example of examples) {
      const text = percent(example.probabilities[frame]);
      example.film.style.setProperty("--frames", strengths.length);
      example.film.style.setProperty("--frame", frame);
      example.now.textContent = text;
      example.flips.textContent = example.flipped[frame] ? "flipped" : "not flipped";
      example.flips.classList.toggle("on", example.flipped[frame]);
      spoken.push(text);
    }
    slider.value = frame;
    said.textContent = strengths[frame].toFixed(2);
    slider.setAttribute("aria-valuetext", `strength ${strengths[frame]}: ${spoken.join(", ")}`);
  }

  function swap() {
    show(Number(slider.value) === 0 ? last : 0);
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    button.setAttribute("aria-pressed", "false");
  }

  function flicker() {
    if (timer) return stop();
    swap();
    if (still.matches) return; // one swap a press: nothing moves by itself
    timer = setInterval(swap, FLICKER_MS);
    button.setAttribute("aria-pressed", "true");
  }

  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  button.addEventListener("click", flicker);
  addEventListener("beforeprint", () => { stop(); show(last); });
  show(last);
}

document.documentElement.classList.add("live");
document.querySelectorAll(".way[data-strengths]").forEach(prepare);
