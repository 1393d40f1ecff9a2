"use strict";
/* Draws the tasks of a run from the JSON in the page. All text that comes from outside goes in as
   textContent, never as markup. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const TASKS = DATA.tasks;

/* As the public ARC viewers show 0 to 9. */
const PALETTE = ["#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00",
  "#aaaaaa", "#f012be", "#ff851b", "#7fdbff", "#870c25"];
const COLOURS = ["black", "blue", "red", "green", "yellow",
  "grey", "magenta", "orange", "light blue", "maroon"];

/* Sign and words of each state; a sign tells them apart without colour. */
const STATES = {
  solved: ["✓", "solved"],
  partly: ["◐", "partly solved"],
  missed: ["✗", "not solved"],
  answered: ["●", "answered"],
  guess: ["○", "a guess"],
};
const KINDS = {
  search: "search", quick: "quick pass", programs: "writing programs", train: "training",
  sample: "sampling",
};
const CERTAINTIES = { sure: "80 % or more", likely: "40 to 80 %", doubtful: "under 40 %", none: "unknown" };
const ORDERS = {
  file: ["as in the file", (task) => task.place],
  certain: ["most certain first", (task) => -(task.chance ?? -1)],
  doubtful: ["least certain first", (task) => task.chance ?? -1],
  long: ["longest first", (task) => -task.seconds],
  id: ["by name", (task) => task.id],
};

TASKS.forEach((task, place) => {
  task.place = place;
  task.certainty = task.chance === null ? "none"
    : task.chance >= 0.8 ? "sure" : task.chance >= 0.4 ? "likely" : "doubtful";
  task.text = [task.id, task.remark, ...task.facts, DATA.sources[task.source], STATES[task.state][1],
    ...task.outputs.flatMap((o) => o.attempts.map((a) => a.program || ""))].join("\n").toLowerCase();
});

/* ---- small helpers ---- */

/** An element with attributes and children; texts become text, nothing else. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const cellsOf = (text) => text.split("/").map((row) => [...row].map(Number));
const percent = (share) => `${Math.round(share * 100)} %`;
const plural = (num, word) => `${num} ${word}${num === 1 ? "" : "s"}`;

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
}

/* ---- grids ---- */

/** What a screen reader says of a grid: its size, and the cells of a small one. */
function described(name, cells) {
  const size = `${name}, ${plural(cells.length, "row")} of ${plural(cells[0].length, "cell")}`;
  if (cells.length * cells[0].length > 36) return size;
  return `${size}: ${cells.map((row) => row.map((c) => COLOURS[c]).join(" ")).join("; ")}`;
}

/** A grid with lines between its cells. truth: cells that differ from it are marked. */
function picture(name, text, truth = null) {
  const cells = cellsOf(text), rows = cells.length, columns = cells[0].length;
  const side = Math.max(rows, columns);
  const px = side <= 5 ? 26 : side <= 10 ? 18 : side <= 16 ? 13 : 10;
  const right = truth && cellsOf(truth);
  const isSameSize = right && right.length === rows && right[0].length === columns;

  const canvas = make("canvas", { role: "img", "aria-label": described(name, cells) });
  const scale = Math.max(1, Math.min(3, Math.ceil(window.devicePixelRatio || 1)));
  canvas.width = (columns * px + 1) * scale;
  canvas.height = (rows * px + 1) * scale;
  canvas.style.width = `${columns * px + 1}px`;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.fillStyle = "#555";
  pen.fillRect(0, 0, columns * px + 1, rows * px + 1);
  cells.forEach((row, r) => row.forEach((colour, c) => {
    pen.fillStyle = PALETTE[colour];
    pen.fillRect(c * px + 1, r * px + 1, px - 1, px - 1);
  }));

  if (isSameSize) {
    cells.forEach((row, r) => row.forEach((colour, c) => {
      if (colour !== right[r][c]) mark(pen, c * px + 0.5, r * px + 0.5, px);
    }));
  }
  return canvas;
}

/** A white cross with a black rim, so that it shows on every colour and hides none. */
function mark(pen, x, y, px) {
  const near = px * 0.3, far = px * 0.7;
  pen.lineCap = "round";
  for (const [style, width] of [["#000", Math.min(4, px / 5 + 1.5)], ["#fff", Math.min(2, px / 10 + 0.5)]]) {
    pen.strokeStyle = style;
    pen.lineWidth = width;
    pen.beginPath();
    pen.moveTo(x + near, y + near);
    pen.lineTo(x + far, y + far);
    pen.moveTo(x + far, y + near);
    pen.lineTo(x + near, y + far);
    pen.stroke();
  }
}

/** How an attempt differs from the truth, in words. */
function difference(text, truth) {
  const cells = cellsOf(text), right = cellsOf(truth);
  if (cells.length !== right.length || cells[0].length !== right[0].length) {
    return `${cells.length} × ${cells[0].length} cells, and ${right.length} × ${right[0].length} are right`;
  }
  const num = cells.flat().filter((cell, i) => cell !== right.flat()[i]).length;
  return num ? `${plural(num, "cell")} of ${cells.flat().length} wrong` : "every cell is right";
}

/** A thumbnail is drawn when it comes near the window: a page may have a thousand. */
const nearby = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    nearby.unobserve(target);
    const { input, attempts } = TASKS[target.dataset.place].outputs[0];
    target.querySelector(".thumb").append(thumbnail(input, attempts[0].grid));
  }
}, { rootMargin: "800px" });

/** Two grids side by side, a pixel a cell: the browser makes them larger. */
function thumbnail(left, right) {
  const grids = [left, right].filter(Boolean).map(cellsOf);
  const widths = grids.map((cells) => cells[0].length);
  const gap = Math.max(1, Math.round(Math.max(...widths) / 6));
  const width = widths.reduce((a, b) => a + b, 0) + (grids.length - 1) * gap;
  const height = Math.max(...grids.map((cells) => cells.length));
  const canvas = make("canvas", { width, height });
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  let x = 0;
  for (const cells of grids) {
    const y = Math.floor((height - cells.length) / 2);
    cells.forEach((row, r) => row.forEach((colour, c) => {
      const value = parseInt(PALETTE[colour].slice(1), 16);
      image.data.set([value >> 16, (value >> 8) & 255, value & 255, 255], ((y + r) * width + x + c) * 4);
    }));
    x += cells[0].length + gap;
  }
  pen.putImageData(image, 0, 0);
  return make("img", { src: canvas.toDataURL(), alt: "" });  // it scrolls smoothly, a canvas does not
}

/* ---- what is chosen: it stands in the address, so that Back and a copied link work ---- */

const FACETS = {
  state: ["State", (task) => task.state, Object.fromEntries(Object.entries(STATES).map(([k, v]) => [k, v.join(" ")]))],
  source: ["Source", (task) => task.source, DATA.sources],
  certainty: ["Certainty", (task) => task.certainty, CERTAINTIES],
};

const chosen = { q: "", order: "file", state: new Set(), source: new Set(), certainty: new Set() };

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  chosen.q = given.get("q") || "";
  chosen.order = given.get("order") in ORDERS ? given.get("order") : "file";
  for (const name of Object.keys(FACETS)) {
    chosen[name] = new Set((given.get(name) || "").split(",").filter((v) => v in FACETS[name][2]));
  }
  return given.get("task");
}

function address(task = null) {
  const parts = new URLSearchParams();
  if (chosen.q) parts.set("q", chosen.q);
  if (chosen.order !== "file") parts.set("order", chosen.order);
  for (const name of Object.keys(FACETS)) {
    if (chosen[name].size) parts.set(name, [...chosen[name]].join(","));
  }
  if (task) parts.set("task", task.key);
  return `#${parts}`;
}

function isMeant(task, besides = null) {
  const words = chosen.q.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => task.text.includes(word)) && Object.entries(FACETS).every(
    ([name, [, valueOf]]) => name === besides || !chosen[name].size || chosen[name].has(valueOf(task)));
}

function listed() {
  const [, key] = ORDERS[chosen.order];
  const found = TASKS.filter((task) => isMeant(task)).map((task) => [key(task), task]);
  found.sort(([a, first], [b, second]) => (a < b ? -1 : a > b ? 1 : first.place - second.place));
  return found.map(([, task]) => task);
}

/* ---- the mosaic ---- */

const mosaic = document.getElementById("mosaic");

function tile(task) {
  const [sign, words] = STATES[task.state];
  const sure = task.chance === null ? "no certainty" : `${percent(task.chance)} sure`;
  const from = DATA.sources[task.source];
  const meter = make("span", { class: "meter", "aria-hidden": "true" },
    make("span", { style: `width:${100 * (task.chance ?? 0)}%` }));
  return make("li", { "data-place": task.place },
    make("a", { class: `tile ${task.state}`, title: [task.id, words, from, sure, task.remark].filter(Boolean).join(", ") },
      make("span", { class: "thumb" }),
      make("span", { class: "name" },
        make("span", { class: "sign", "aria-hidden": "true" }, sign), make("span", { class: "id" }, task.id)),
      make("span", { class: "unseen" }, `, ${words}, `),
      make("span", { class: "from" }, make("span", {}, `${from} `), make("span", {}, task.chance === null ? "" : percent(task.chance))),
      meter));
}

function showMosaic() {
  const found = listed(), tiles = new Map([...mosaic.children].map((e) => [Number(e.dataset.place), e]));
  const isListed = new Set(found);
  for (const task of found) {
    const item = tiles.get(task.place);
    item.firstChild.href = address(task);
    item.hidden = false;
    mosaic.append(item);
  }
  for (const task of TASKS) if (!isListed.has(task)) tiles.get(task.place).hidden = true;

  const among = found.length === TASKS.length ? "" : ` of ${TASKS.length}`;
  document.getElementById("count").textContent = found.length
    ? `${found.length}${among} ${TASKS.length === 1 ? "task" : "tasks"}` : "No task is like that.";
  for (const button of document.querySelectorAll("#filters button[data-facet]")) {
    const { facet, value } = button.dataset;
    const num = TASKS.filter((task) => isMeant(task, facet) && FACETS[facet][1](task) === value).length;
    button.querySelector(".num").textContent = num;
    button.setAttribute("aria-pressed", chosen[facet].has(value));
    button.classList.toggle("empty", !num && !chosen[facet].has(value));
  }
}

function change() {
  history.replaceState(null, "", address());
  showMosaic();
}

function makeFilters() {
  const form = document.getElementById("filters");
  const input = make("input", {
    type: "search", id: "q", placeholder: "name, function of a program, reason …", autocomplete: "off",
    oninput: () => { chosen.q = input.value.trim(); change(); },
  });
  const order = make("select", { id: "order", onchange: () => { chosen.order = order.value; change(); } },
    ...Object.entries(ORDERS).map(([value, [words]]) => make("option", { value }, words)));
  const clear = make("button", { type: "reset", class: "clear" }, "Show all");
  form.append(make("div", { class: "row" },
    make("label", { for: "q" }, "Search "), input, make("label", { for: "order" }, "Order "), order, clear));

  for (const [facet, [title, valueOf, names]] of Object.entries(FACETS)) {
    const there = new Set(TASKS.map(valueOf));
    const values = Object.keys(names).filter((value) => there.has(value));
    if (values.length < 2) continue;
    form.append(make("fieldset", {}, make("legend", {}, title), ...values.map((value) =>
      make("button", {
        type: "button", class: `chip ${value}`, "data-facet": facet, "data-value": value,
        "aria-pressed": "false",
        onclick: () => {
          if (!chosen[facet].delete(value)) chosen[facet].add(value);
          change();
        },
      }, `${names[value]} `, make("span", { class: "num" })))));
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    Object.assign(chosen, { q: "", order: "file", state: new Set(), source: new Set(), certainty: new Set() });
    setTimeout(change);  // after the fields are empty
  });
}

/** Arrow keys go from tile to tile, up and down by rows as they are on the screen. */
mosaic.addEventListener("keydown", (event) => {
  const tiles = [...mosaic.querySelectorAll("li:not([hidden]) > a")];
  const at = tiles.indexOf(document.activeElement);
  if (at < 0) return;
  const top = tiles[0].getBoundingClientRect().top;
  const perRow = tiles.findIndex((t) => t.getBoundingClientRect().top > top + 4);
  const columns = perRow < 0 ? tiles.length : perRow;
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns,
    Home: 0, End: tiles.length - 1 }[event.key];
  if (to === undefined || !tiles[to]) return;
  event.preventDefault();
  tiles[to].focus();
});

/* ---- one task ---- */

const view = document.getElementById("task");

function figure(name, text, { truth = null, under = [], kind = "" } = {}) {
  return make("figure", { class: kind }, make("figcaption", {}, name), picture(name, text, truth),
    ...under.map((words) => make("p", {}, words)));
}

const arrow = () => make("span", { class: "arrow", "aria-hidden": "true" }, "→");

function demonstrations(task) {
  if (!task.train.length) return [];
  const pairs = task.train.map(([input, output], i) => make("li", { class: "pair" },
    picture(`demonstration ${i + 1}, input`, input), arrow(),
    picture(`demonstration ${i + 1}, output`, output)));
  return [make("h3", {}, "Demonstrations"), make("ul", { class: "pairs" }, ...pairs)];
}

function judged(answer, truth) {
  if (!truth) return [];
  return [answer.is_right ? "✓ right" : `✗ ${difference(answer.grid, truth)}`];
}

function output(task, index) {
  const found = task.outputs[index], truth = found.answer;
  const title = task.outputs.length > 1 ? `Test input ${index + 1}` : "Answers";
  const row = [];
  if (found.input) row.push(figure("test input", found.input), arrow());
  found.attempts.forEach((a) => row.push(figure(a.name, a.grid, {
    truth, under: judged(a, truth), kind: a.is_right === null ? "" : a.is_right ? "right" : "wrong",
  })));
  if (truth) row.push(figure("right answer", truth, { kind: "truth" }));

  const why = found.attempts.map((a) => make("div", { class: "why" },
    make("h4", {}, a.said), ...a.words.map((words) => make("p", {}, words))));
  const parts = [make("h3", {}, title), make("div", { class: "grids" }, ...row),
    make("div", { class: "reasons" }, ...why), ...found.attempts.map(program)];

  if (found.others.length) {
    const more = found.num_more ? ` and ${found.num_more} more that are not drawn` : "";
    const rightOne = found.others.some((a) => a.is_right) ? ": the right one is among them" : "";
    parts.push(make("details", {},
      make("summary", {}, `${plural(found.others.length, "other answer")}${more}${rightOne}`),
      make("div", { class: "grids" }, ...found.others.map((a) => figure(a.said, a.grid, {
        truth, under: [...judged(a, truth), ...a.words], kind: a.is_right ? "right" : "",
      })))));
  }
  return make("section", {}, ...parts);
}

/** The text of a program, and what it makes of the test input, step by step. */
function program(attempt) {
  if (!attempt.program) return null;
  const steps = attempt.steps.map((step) => make("li", { class: step.is_line ? "line" : "" },
    picture(`after ${step.code}`, step.grid), make("code", {}, step.code)));
  return make("div", { class: "program" },
    make("h4", {}, `Program of ${attempt.name}, from: ${DATA.sources[attempt.source]}`),
    make("pre", { tabindex: "0" }, attempt.program),
    steps.length ? make("ol", { class: "steps" }, ...steps) : null);
}

const SVG = "http://www.w3.org/2000/svg";

function drawn(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function curve({ name, points }) {
  const [width, height, left, bottom] = [320, 150, 44, 22];
  const most = Math.max(...points.map(([, y]) => y), 1e-9), last = Math.max(points.at(-1)[0], 1);
  const at = ([x, y]) => [left + (x / last) * (width - left - 10), 10 + (1 - y / most) * (height - bottom - 14)];
  const words = `${name}: loss ${points[0][1].toFixed(3)} before, ${points.at(-1)[1].toFixed(3)} after ${last} steps`;
  const text = (x, y, value, anchor) => drawn("text", { x, y, "text-anchor": anchor }, value);
  return make("figure", {},
    make("figcaption", {}, words),
    drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": words, class: "curve" },
      drawn("path", { class: "axis", d: `M${left} 6V${height - bottom}H${width - 6}` }),
      text(left - 6, 16, most.toFixed(2), "end"), text(left - 6, height - bottom, "0", "end"),
      text(left, height - 6, "0", "middle"), text(width - 10, height - 6, `${last} steps`, "end"),
      drawn("polyline", { points: points.map((p) => at(p).join(",")).join(" ") }),
      ...points.map((p) => drawn("circle", { cx: at(p)[0], cy: at(p)[1], r: 3.5 }))));
}

function showTask(task) {
  const among = listed(), at = among.indexOf(task);
  const step = (to, words) => {
    const other = at < 0 ? undefined : among[to];
    return other ? make("a", { class: "button", href: address(other), rel: words }, words === "prev" ? "← previous" : "next →")
      : make("span", { class: "button off" }, words === "prev" ? "← previous" : "next →");
  };
  const [sign, words] = STATES[task.state];
  const sure = task.chance === null ? null : `${percent(task.chance)} sure`;
  view.replaceChildren(
    make("nav", { "aria-label": "Tasks" }, make("a", { class: "button", href: address() }, "↑ all tasks"),
      step(at - 1, "prev"), step(at + 1, "next"),
      make("span", { class: "quiet" }, at < 0 ? "" : `${at + 1} of ${among.length}`),
      make("span", { class: "quiet keys" }, "keys: ← → Esc")),
    make("h2", { id: "task-title", tabindex: "-1" }, `${task.id} `,
      make("span", { class: `badge ${task.state}` }, `${sign} ${words}`)),
    make("p", {}, [DATA.sources[task.source], sure, duration(task.seconds), task.remark].filter(Boolean).join(" · ")),
    ...demonstrations(task),
    ...task.outputs.map((_, index) => output(task, index)),
    ...(task.losses.length ? [make("h3", {}, "Training"), make("div", { class: "grids" }, ...task.losses.map(curve))] : []),
    make("h3", {}, "What was done"),
    make("ul", { class: "facts" }, ...(task.facts.length ? task.facts : ["not begun"]).map((f) => make("li", {}, f))));
}

/* ---- the timeline ---- */

function makeTimeline() {
  const { lanes, spans, is_told: isTold } = DATA.timeline;
  if (!spans.length) return;
  const section = document.getElementById("timeline");
  section.hidden = false;
  const end = Math.max(...spans.map((s) => s[3]));
  const there = Object.keys(KINDS).filter((kind) => spans.some((s) => s[1] === kind));
  section.append(make("p", { class: "legend" }, ...there.flatMap((kind) => [make("span", { class: `swatch do-${kind}` }), `${KINDS[kind]} `])));
  if (!isTold) section.append(make("p", { class: "quiet" }, "The journal does not say which worker it was: rows hold what ran at the same time."));

  const said = make("p", { class: "quiet said" }, "Point at a bar to see its task; a click opens it.");
  const rows = lanes.map((name, lane) => {
    const own = spans.filter((s) => s[0] === lane);
    const busy = own.reduce((sum, s) => sum + s[3] - s[2], 0);
    const words = `${name}: busy ${duration(busy)} of ${duration(end)}, ${percent(busy / end)}`;
    const bar = make("div", { class: "lane", role: "img", "aria-label": words });
    for (const [, kind, from, until, places] of own) {
      const isApart = (until - from) / end > 0.004;  // else a gap after it would hide it
      const span = make("span", { class: `span do-${kind}${isApart ? " apart" : ""}`, style: `left:${100 * from / end}%;width:${100 * (until - from) / end}%` });
      const tasks = places.map((place) => TASKS[place]);
      const names = tasks.slice(0, 4).map((task) => task.id).join(", ") + (tasks.length > 4 ? ` and ${tasks.length - 4} more` : "");
      span.addEventListener("pointerenter", () => {
        said.textContent = `${name}, ${KINDS[kind]}, ${duration(from)} to ${duration(until)}: ${names}`;
      });
      if (tasks.length) span.addEventListener("click", () => { location.hash = address(tasks[0]); });
      bar.append(span);
    }
    return make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "bars" }, bar),
      make("td", { class: "quiet" }, percent(busy / end)));
  });
  section.append(
    make("table", { class: "lanes" }, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "worker"),
      make("th", { scope: "col" }, `0 to ${duration(end)}`), make("th", { scope: "col" }, "busy"))), make("tbody", {}, ...rows)), said);
}

/* ---- the page ---- */

function makeTheme() {
  const button = document.getElementById("theme");
  const names = { auto: "as the system", dark: "dark", light: "light" };
  let theme = "auto";
  try { theme = localStorage.getItem("theme") in names ? localStorage.getItem("theme") : "auto"; } catch { /* not kept */ }
  const show = () => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${names[theme]}`;
  };
  button.addEventListener("click", () => {
    theme = { auto: "dark", dark: "light", light: "auto" }[theme];
    try { localStorage.setItem("theme", theme); } catch { /* not kept */ }
    show();
  });
  show();
}

let shownTask = null, scrolledTo = 0;

/** Shows what the address says: all tasks, or one. */
function route() {
  const key = readAddress();
  const task = TASKS.find((other) => other.key === key) || null;
  const before = shownTask;
  if (!before && task) scrolledTo = window.scrollY;
  shownTask = task;
  document.getElementById("overview").hidden = Boolean(task);
  view.hidden = !task;
  document.getElementById("q").value = chosen.q;
  document.getElementById("order").value = chosen.order;

  if (task) {
    showTask(task);
    window.scrollTo(0, 0);
    document.getElementById("task-title").focus({ preventScroll: true });
    return;
  }
  showMosaic();
  if (before) {
    window.scrollTo(0, scrolledTo);
    mosaic.querySelector(`li[data-place="${before.place}"]:not([hidden]) > a`)?.focus({ preventScroll: false });
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = ["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement?.tagName);
  if (event.key === "/" && !isTyping && !shownTask) {
    event.preventDefault();
    document.getElementById("q").focus();
  }
  if (!shownTask) return;
  const link = { ArrowLeft: "a[rel=prev]", ArrowRight: "a[rel=next]", Escape: "nav a" }[event.key];
  const isScrolling = document.activeElement?.tagName === "PRE";
  if (link && !isScrolling) view.querySelector(link)?.click();
});

document.getElementById("tiles").append(...DATA.tiles.map(([name, value, more]) =>
  make("div", {}, make("dt", {}, name), make("dd", {}, make("b", {}, value), ` ${more}`))));
document.getElementById("tasks").hidden = false;
makeTheme();
makeFilters();
mosaic.append(...TASKS.map(tile));
for (const item of mosaic.children) nearby.observe(item);
makeTimeline();
window.addEventListener("hashchange", route);
route();
