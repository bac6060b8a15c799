// The sample browser: filters, searches and pages through the embedded responses. Every text reaches the
// page through textContent, so nothing a model wrote is ever read as markup.
"use strict";
(function () {
  const PAGE = 10;
  const samples = JSON.parse(document.getElementById("samples").textContent);
  const controls = document.getElementById("samples-controls");
  const view = document.getElementById("samples-view");
  if (!controls) return;
  const benchmark = document.getElementById("samples-benchmark");
  const outcome = document.getElementById("samples-outcome");
  const search = document.getElementById("samples-search");
  const position = document.getElementById("samples-position");
  const previous = document.getElementById("samples-previous");
  const next = document.getElementById("samples-next");
  let page = 0;

  function element(name, style, text) {
    const made = document.createElement(name);
    if (style) made.className = style;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function fillOutcomes() {
    const counts = new Map();
    for (const item of samples[benchmark.value]) {
      counts.set(item.outcome, (counts.get(item.outcome) || 0) + 1);
    }
    outcome.replaceChildren(new Option("all", ""));
    for (const [name, count] of counts) outcome.append(new Option(name + " (" + count + ")", name));
  }

  function words(side) {
    return side.parts.map((part) => part[0]).join("");
  }

  function haystack(item) {
    const sides = [item.base, item.tuned].filter(Boolean).map(words);
    return [item.id, item.question, item.answer].concat(sides).join("\n").toLowerCase();
  }

  function response(side) {
    const box = element("div");
    const tag = element("div", side.correct ? "tag right" : "tag wrong");
    const answer = side.extracted === null ? "no answer" : side.extracted;
    tag.append(side.label + ": ", element("b", "", (side.correct ? "right, " : "wrong, ") + answer));
    tag.append((side.category ? " · " + side.category : "") + (side.slip ? " · " + side.slip : "") + " · " + side.length);
    const text = element("div", "response");
    for (const [words, marks, note] of side.parts) {
      text.append(marks ? element("span", marks, words) : words);
      if (note) text.append(element("span", "note", note));
    }
    if (side.cut) text.append(element("span", "quiet", " … (cut)"));
    box.append(tag, text);
    return box;
  }

  function card(item) {
    const box = element("div", "item");
    box.append(element("div", "tag", item.id + " · " + item.outcome + " · reference answer " + item.answer));
    box.append(element("p", "question", item.question));
    const sides = ["base", "tuned"].filter((name) => item[name]);
    const pair = element("div", sides.length === 1 ? "pair single" : "pair");
    for (const name of sides) pair.append(response(item[name]));
    box.append(pair);
    return box;
  }

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    const found = samples[benchmark.value].filter(
      (item) =>
        (!outcome.value || item.outcome === outcome.value) && (!wanted || haystack(item).includes(wanted))
    );
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    view.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(card));
    position.textContent = found.length + " items, page " + (page + 1) + " of " + pages;
    previous.disabled = page === 0;
    next.disabled = page === pages - 1;
  }

  function restart() {
    page = 0;
    draw();
  }

  function turn(by) {
    page += by;
    draw();
    controls.scrollIntoView();
  }

  benchmark.addEventListener("change", function () {
    fillOutcomes();
    restart();
  });
  outcome.addEventListener("change", restart);
  search.addEventListener("input", restart);
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  for (const name of Object.keys(samples)) benchmark.append(new Option(name, name));
  fillOutcomes();
  controls.hidden = false;
  draw();
})();
