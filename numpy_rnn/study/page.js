"use strict";
// Everything on the page is drawn from `data`, which is what `numpy-rnn trace --json` prints: values, lines and moments
// that refer to one another by index. `now` is the only state: the moment that is shown.
const data = JSON.parse(document.getElementById("data").textContent);
const { values, lines, moments, jacobians, fields, sizes: { T } } = data;
const byId = (id) => document.getElementById(id);
let now = 0;

const firstOf = (direction, step) => moments.findIndex((m) => m.direction === direction && m.step === step);
const lastOf = (direction, step) => moments.findLastIndex((m) => m.direction === direction && m.step === step);

// The moment at which each value is known; -1 if it is given. A step's Jacobian comes with its last equation.
const momentOfLine = new Map();
moments.forEach((moment, m) => moment.lines.forEach((line) => momentOfLine.set(line, m)));
jacobians.forEach((j) => j.lines.forEach((line) => momentOfLine.set(line, lastOf("backward", j.step))));
const since = values.map((value) => (value.line === null ? -1 : momentOfLine.get(value.line)));

// What a name stands for at a moment: the last of its values that is known by then; -1 if none is.
const latest = (name, moment) => values.findLastIndex((value, index) => value.name === name && since[index] <= moment);

// --- small pieces -------------------------------------------------------------------------------------------------
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "rect", "circle", "text", "tspan"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
const scrolling = (label, ...children) => make("div", { class: "scroll", role: "group", "aria-label": label }, ...children);
const number = (v) => (typeof v === "string" ? v : Math.abs(v) < 0.00005 ? "0.0000" : v.toFixed(4).replace("-", "−"));
const LEVELS = [0.05, 0.25, 1]; // magnitudes at which a colour grows stronger
function shade(v) {
  if (Math.abs(v) < 0.00005) return "p0";
  return (v > 0 ? "p" : "n") + (1 + LEVELS.filter((level) => Math.abs(v) >= level).length);
}
// W_hh is W with the subscript hh, a_i_0 is a with i,0, ∂h_1/∂a_i likewise.
const nameParts = (text) => text.split("/").map((part) => {
  const [base, ...sub] = part.replace(/[{}]/g, "").split("_");
  return [base, sub.join(",")];
});
const nameNodes = (text) => nameParts(text).flatMap(([base, sub], n) => [
  ...(n ? ["/"] : []), make("i", {}, base), ...(sub ? [make("sub", {}, sub)] : []),
]);
const NAMES = /([∂ΣA-Za-z][A-Za-z]*(?:_(?:\{[^}]*\}|[A-Za-z0-9]+)(?:\{[^}]*\})?)?)/;
const equationNodes = (text) => text.split(NAMES).flatMap((part, n) =>
  n % 2 && !["tanh", "diag", "relu"].includes(part) ? nameNodes(part) : [part]);

function grid(rows) {
  const cells = rows.flat().map((v) => make("span", { class: `n ${shade(v)}` }, number(v)));
  return make("span", { class: "grid", style: `grid-template-columns: repeat(${rows[0].length}, auto)` }, ...cells);
}
function spoken(rows) {
  if (rows.every((row) => row.length === 1)) return rows.map((row) => number(row[0])).join(", ");
  return rows.map((row, r) => `row ${r + 1}: ${row.map(number).join(", ")}`).join("; ");
}

// --- values and lines ---------------------------------------------------------------------------------------------
function origin({ line, meaning }) {
  if (line === null) return meaning;
  const { number, direction, step } = lines[line];
  return `${meaning ? `${meaning}, ` : ""}${direction}, step ${step}, ${number === "∂" ? "the Jacobian" : `equation (${number})`}`;
}
const described = (value) => `${value.name}: ${spoken(value.rows)}. ${origin(value)}`;
const valueButton = (index) => make(
  "button", { type: "button", class: "value", "data-value": index, "aria-label": described(values[index]) }, grid(values[index].rows),
);
const under = (shown, nodes) => make("span", { class: "mini" }, shown, make("span", { class: "of" }, ...nodes));
// The right side with numbers in the place of names, and what comes out.
function sum(line) {
  const box = make("div", { class: "sum" });
  if (line.before !== null) box.append(under(grid(values[line.before].rows), nameNodes(values[line.before].name)), "+");
  for (const { text, value } of line.right) {
    if (value !== null) box.append(under(grid(values[value].rows), nameNodes(text)));
    else if (/^[ᵀ²]$/.test(text) && box.lastChild.matches?.(".mini")) box.lastChild.firstChild.append(make("span", { class: "up" }, text));
    else if (text.trim()) box.append(make("span", {}, text.trim()));
  }
  box.append("=");
  for (const output of line.outputs) {
    const shown = under(valueButton(output), nameNodes(values[output].name));
    shown.classList.add("new");
    box.append(shown);
  }
  return box;
}
const codeList = (code) => make("ol", { class: "code" }, ...code.map(({ file, line, text }) =>
  make("li", {}, make("span", { class: "at" }, `${file.split("/").at(-1)}:${line}`), text)));
const badge = (line) => make("span", { class: `badge ${line.direction}` }, line.number === "∂" ? "∂" : `(${line.number})`);
// An equation, the code that computes it, and its numbers.
function lineBox(line, text) {
  const box = make("div", { class: "line" }, make("div", { class: "equation" }, badge(line), " ", ...equationNodes(text)));
  if (line.remark) box.append(make("p", { class: "remark" }, line.remark));
  if (line.code.length) box.append(codeList(line.code));
  box.append(scrolling(`Numbers of ${text}`, sum(line)));
  return box;
}

// --- hover and focus ----------------------------------------------------------------------------------------------
const tip = byId("tip");
let target = null; // what the tip is about
function showTip(element) {
  hideTip();
  const value = values[element.dataset.value];
  if (value.line === null) {
    tip.replaceChildren(make("div", { class: "equation" }, ...nameNodes(value.name), " = "), grid(value.rows), make("p", { class: "remark" }, value.meaning));
  } else {
    const line = lines[value.line];
    const box = lineBox(line, line.equation);
    box.querySelectorAll("button").forEach((button) => button.replaceWith(...button.childNodes));
    tip.replaceChildren(box, make("p", { class: "remark" }, `${value.name}: ${origin(value)}`));
    if (line.number === "∂") tip.append(make("p", { class: "remark" }, "No line of code: backpropagation multiplies by its transpose without forming it."));
  }
  tip.hidden = false;
  target = element;
  target.setAttribute("aria-describedby", "tip");
  placeTip();
}
function placeTip() {
  if (!target) return;
  const box = target.getBoundingClientRect(), { offsetWidth: w, offsetHeight: h } = tip;
  tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - w - 8))}px`;
  tip.style.top = `${box.bottom + 6 + h < innerHeight ? box.bottom + 6 : Math.max(8, box.top - h - 6)}px`;
}
function hideTip() {
  tip.hidden = true;
  target?.removeAttribute("aria-describedby");
  target = null;
}
const withValue = (event) => (event.target instanceof Element ? event.target.closest("[data-value]") : null);
document.addEventListener("pointerover", (event) => {
  const found = withValue(event);
  if (found) showTip(found);
  else if (target && !tip.contains(event.target)) hideTip();
});
document.addEventListener("focusin", (event) => {
  const found = withValue(event);
  if (found) showTip(found);
  else hideTip();
});
addEventListener("scroll", placeTip, { passive: true, capture: true });

// --- the unrolled graph: a lane for each field of the state, across which each step's cell stands -----------------
const WIDE = 118, LEFT = 34, R = 21, SMALL = 15, TOP = 72;
const stateX = (t) => LEFT + t * WIDE;
const cellX = (t) => LEFT + (t + 0.5) * WIDE;
const lane = (k) => TOP + 62 * k;
const BOTTOM = lane(fields.length - 1);
const edges = []; // { parts, direction, step }
const nodes = []; // { node, name, active: (moment) => boolean, bits, dbits }

function label(text, x, y) {
  const node = make("text", { x, y });
  for (const [base, sub] of nameParts(text)) {
    node.append(make("tspan", { "font-style": "italic" }, base));
    if (sub) node.append(make("tspan", { class: "sub", dy: 4 }, sub));
  }
  return node;
}
function edge(svg, direction, step, x1, y1, x2, y2, bend = 0) {
  const mx = (x1 + x2) / 2, my = (y1 + y2) / 2 + bend;
  const angle = (Math.atan2(y2 - my, x2 - mx) * 180) / Math.PI;
  const parts = [
    make("path", { class: `edge ${direction}`, d: `M${x1},${y1} Q${mx},${my} ${x2},${y2}` }),
    make("path", { class: `head ${direction}`, d: "M0,0 L-8,-4 L-8,4 Z", transform: `translate(${x2},${y2}) rotate(${angle})` }),
  ];
  svg.append(...parts);
  edges.push({ parts, direction, step });
}
// A vector as a row of small squares, filled as soon as it is known.
function bits(parent, name, x, y) {
  const n = values[latest(name, moments.length)].rows.length, side = Math.min(9, 30 / n);
  const found = Array.from({ length: n }, (_, k) => make("rect", { class: "bit none", x: x + (k - n / 2) * side, y, width: side, height: side }));
  parent.append(...found);
  return found;
}
function addNode(svg, name, shape, active, action) {
  const node = make("g", { class: "node", role: "button", tabindex: "0", "aria-label": name }, shape);
  node.addEventListener("click", action);
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    action();
  });
  svg.append(node);
  nodes.push({ node, name, active, bits: [], dbits: [] });
  return node;
}
function addValue(svg, name, x, y, r, active) {
  const node = addNode(svg, name, make("circle", { class: "shape", cx: x, cy: y, r }), active, () => go(Math.max(0, since[node.dataset.value] ?? 0)));
  node.append(label(name, x, y + (r === R ? -4 : 3)));
  return node;
}
function addState(svg, field, k, t) {
  const name = `${field}_${t}`, x = stateX(t), y = lane(k);
  const gives = (line, sought) => line.outputs.some((output) => values[output].name === sought);
  const active = (m) => m.lines.some((line) => gives(lines[line], m.direction === "forward" ? name : `d${name}`));
  const node = addValue(svg, name, x, y, R, active);
  Object.assign(nodes.at(-1), { bits: bits(node, name, x, y + 4), dbits: bits(svg, `d${name}`, x, y + R + 6) });
}
function buildGraph() {
  const end = stateX(T) + 74; // where the gradients of the final state stand
  const width = end + SMALL + 4, height = BOTTOM + 83;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, style: `max-width: ${width}px; min-width: ${0.7 * width}px` });
  for (let t = 0; t < T; t++) {
    fields.forEach((_, k) => {
      const [side, down] = lane(k) === BOTTOM ? [17, 21] : [27, 16];
      edge(svg, "forward", t, stateX(t) + R, lane(k), cellX(t) - 25, lane(k));
      edge(svg, "forward", t, cellX(t) + 25, lane(k), stateX(t + 1) - R - 2, lane(k));
      edge(svg, "backward", t, stateX(t + 1) - 14, lane(k) + 19, cellX(t) + side, lane(k) + down, 14);
      edge(svg, "backward", t, cellX(t) - side, lane(k) + down, stateX(t) + 15, lane(k) + 19, 14);
    });
    edge(svg, "forward", t, cellX(t), BOTTOM + 51, cellX(t), BOTTOM + 22);
    edge(svg, "backward", t, stateX(t + 1), 17 + SMALL, stateX(t + 1), TOP - R - 2);
  }
  const arrives = (t) => (m) => moments.indexOf(m) === firstOf("backward", t - 1);
  fields.forEach((field, k) => {
    edge(svg, "backward", T - 1, end - SMALL, lane(k), stateX(T) + R + 2, lane(k));
    addValue(svg, `K_${field}`, end, lane(k), SMALL, arrives(T));
  });
  for (let t = 0; t < T; t++) {
    const shape = make("rect", { class: "shape", x: cellX(t) - 25, y: TOP - 20, width: 50, height: BOTTOM - TOP + 40, rx: 9 });
    const cell = addNode(svg, `Cell, step ${t}: go to its first equation`, shape, (m) => m.step === t, () => go(firstOf(moments[now].direction, t)));
    const y = (TOP + BOTTOM) / 2;
    cell.append(make("text", { class: "cellname", x: cellX(t), y: y - 2 }, data.cell.split("_")[0].toUpperCase()), make("text", { class: "small", x: cellX(t), y: y + 12 }, `step ${t}`));
    addValue(svg, `x_${t}`, cellX(t), BOTTOM + 66, SMALL, (m) => moments.indexOf(m) === firstOf("forward", t));
    addValue(svg, `G_${t + 1}`, stateX(t + 1), 17, SMALL, arrives(t + 1));
  }
  for (let t = 0; t <= T; t++) fields.forEach((field, k) => addState(svg, field, k, t));
  byId("graph").append(svg);
}
function paint(squares, index) {
  squares.forEach((bit, k) => bit.setAttribute("class", index < 0 ? "bit none" : `bit ${shade(values[index].rows[k][0])}`));
}
function drawGraph(moment) {
  for (const { parts, direction, step } of edges) {
    for (const part of parts) {
      part.classList.toggle("done", now >= firstOf(direction, step));
      part.classList.toggle("active", direction === moment.direction && step === moment.step);
    }
  }
  for (const { node, name, active, bits, dbits } of nodes) {
    node.classList.remove("forward", "backward");
    node.classList.add(moment.direction);
    node.classList.toggle("active", active(moment));
    if (name.startsWith("Cell")) continue;
    const index = latest(name, now);
    node.classList.toggle("done", index >= 0);
    if (index >= 0) node.dataset.value = index;
    else delete node.dataset.value;
    node.setAttribute("aria-label", index < 0 ? `${name}: not yet computed` : described(values[index]));
    if (!bits.length) continue;
    paint(bits, index);
    const t = Number(name.split("_")[1]); // a gradient is shown as soon as it is complete; the last one is given
    paint(dbits, now >= (t === T ? firstOf("backward", T - 1) : lastOf("backward", t)) ? latest(`d${name}`, now) : -1);
  }
  reveal(byId("graph"), nodes.find(({ name }) => name.startsWith(`Cell, step ${moment.step}:`)).node);
}
// Scroll a box sideways by as much as brings an element into view, not at all if it is.
function reveal(box, element) {
  const outer = box.getBoundingClientRect(), inner = element.getBoundingClientRect();
  const left = outer.left + (box.querySelector("tbody th")?.offsetWidth ?? 0); // labels of rows cover what is under them
  if (inner.left < left || inner.right > outer.right) box.scrollLeft += inner.left - left - 8;
}

// --- the equations of the moment, and the Jacobian of its step ----------------------------------------------------
function drawNow(moment) {
  byId("now").replaceChildren(...moment.lines.map((index) => lineBox(lines[index], lines[index].equation)));
}
function drawJacobian(moment) {
  const t = moment.step, j = jacobians.find((found) => found.step === t);
  const s = fields.length === 1 ? fields[0] : "s";
  const transposed = j.matrix[0].map((_, c) => j.matrix.map((row) => row[c]));
  const product = make(
    "div", { class: "sum" },
    under(grid(transposed), equationNodes(`(∂${s}_${t + 1}/∂${s}_${t})ᵀ`)), under(grid(j.arrived), nameNodes(`d${s}_${t + 1}`)), "+",
    under(grid(j.loss), ["from the loss"]), "=", under(grid(j.result), nameNodes(`d${s}_${t}`)),
  );
  byId("jacobian").replaceChildren(
    make("div", { class: "line" }, scrolling("The gradient through this step", product), make("p", { class: "remark" }, `The product is at most ${number(j.stretch)} times as long as the gradient that arrives: the largest singular value.`)),
    ...j.lines.map((index) => lineBox(lines[index], lines[index].at_step)),
  );
}
// A box gets the height that its highest drawing needs, so that what stands below it never moves.
function reserve(box, draw, drawn) {
  box.style.height = "";
  const heights = drawn.map((moment) => (draw(moment), box.scrollHeight));
  box.style.height = `${Math.max(...heights)}px`;
}
function reserveAll() {
  reserve(byId("now"), drawNow, [...moments.filter((m) => m.step === 0), ...moments.filter((m) => m.step === T - 1)]);
  reserve(byId("jacobian"), drawJacobian, jacobians);
  drawNow(moments[now]);
  drawJacobian(moments[now]);
}

// --- all values: one row for each name that an equation gives a value to; step t stands in column t ---------------
const tables = []; // { table, direction, heads, rows: [{ row, cells: [{ cell, index }], number }] }
const rowHead = (name, ...before) => make("th", { scope: "row" }, ...before, make("span", { class: "name" }, ...nameNodes(name)));
function addTable(table, name, parent) {
  table.addEventListener("keydown", moveInTable);
  const box = scrolling(name, table);
  box.tabIndex = 0; // there may be no value yet that takes the focus
  parent.append(box);
}
function buildTable(direction) {
  const steps = [...Array(T).keys()];
  const heads = steps.map((t) => make("th", { scope: "col" }, direction === "forward" ? `step ${t} →` : `← step ${t}`));
  const corner = make("th", { scope: "col" }, make("span", { class: "hidden" }, "equation and name"));
  const rows = [];
  for (const moment of moments.filter((m) => m.direction === direction && m.step === 0)) {
    const ofSteps = steps.map((t) => moments.find((m) => m.direction === direction && m.step === t && m.number === moment.number));
    moment.lines.forEach((line, n) => lines[line].names.forEach((name, o) => {
      const cells = ofSteps.map((m) => lines[m.lines[n]].outputs[o]).map((index) => ({ cell: make("td", {}, valueButton(index)), index }));
      const head = rowHead(name, make("span", { class: "no" }, `(${moment.number})`));
      if (lines[line].before !== null) head.append(make("span", { class: "hidden" }, ", the sum so far"), " +");
      rows.push({ row: make("tr", {}, head, ...cells.map(({ cell }) => cell)), cells, number: moment.number });
    }));
  }
  const caption = make("caption", { class: direction }, make("span", {}, direction === "forward" ? "Forward" : "Backward"));
  const table = make("table", {}, caption, make("thead", {}, make("tr", {}, corner, ...heads)), make("tbody", {}, ...rows.map(({ row }) => row)));
  tables.push({ table, direction, heads, rows });
  addTable(table, `${direction} values`, byId("values"));
}
function drawValues(moment) {
  for (const { table, direction, heads, rows } of tables) {
    const here = direction === moment.direction;
    heads.forEach((head, t) => head.classList.toggle("here", here && t === moment.step));
    for (const { row, cells, number } of rows) {
      row.classList.toggle("here", here && number === moment.number);
      for (const { cell, index } of cells) {
        cell.classList.toggle("todo", since[index] > now);
        cell.classList.toggle("new", since[index] === now);
      }
    }
    if (here) reveal(table.parentElement, heads[moment.step]);
    oneStop(table, table.querySelector(".new .value") ?? table.querySelector("td:not(.todo) .value"));
  }
}
// The values of a table are one stop of the Tab key together; arrow keys move among them.
function oneStop(table, chosen) {
  table.querySelectorAll(".value").forEach((button) => button.setAttribute("tabindex", button === chosen ? "0" : "-1"));
}
function moveInTable(event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const cell = event.target.closest("td");
  if (!step || !cell) return;
  event.preventDefault();
  const rows = [...event.currentTarget.tBodies[0].rows];
  let r = rows.indexOf(cell.parentElement) + step[0], c = cell.cellIndex + step[1];
  for (; rows[r]?.cells[c]; r += step[0], c += step[1]) {
    const button = rows[r].cells[c].querySelector("td:not(.todo) .value");
    if (!button) continue;
    oneStop(event.currentTarget, button);
    return button.focus();
  }
}
function buildGiven() {
  const rows = data.given.map((index) =>
    make("tr", {}, rowHead(values[index].name), make("td", {}, valueButton(index)), make("td", { class: "remark" }, values[index].meaning)));
  const table = make("table", {}, make("caption", {}, "Given"), make("tbody", {}, ...rows));
  oneStop(table, table.querySelector(".value"));
  const folded = make("details", {}, make("summary", {}, "What is given: weights, inputs, the initial state, the loss"));
  addTable(table, "given values", folded);
  byId("values").append(folded);
}

// --- the other ways to the gradients ------------------------------------------------------------------------------
function buildGradients() {
  const ways = Object.keys(Object.values(data.gradients)[0].ways).filter((way) => way !== "by equation");
  const worst = (errors) => Object.values(errors).reduce((a, b) => (typeof a === "string" || a > b ? a : b)); // "nan" is worst
  const row = ([name, found]) => {
    const error = worst(found.errors);
    const verdict = make("td", { class: error <= data.tolerance ? "" : "bad" }, typeof error === "string" ? error : error.toExponential(0));
    return make("tr", {}, rowHead(name), ...ways.map((way) => make("td", {}, grid(flat(found.ways[way])))), verdict);
  };
  const corner = make("th", { scope: "col" }, make("span", { class: "hidden" }, "gradient"));
  const heads = [corner, ...[...ways, "largest difference"].map((text) => make("th", { scope: "col" }, text))];
  byId("gradients").append(make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...Object.entries(data.gradients).map(row)));
  const most = Math.max(...Object.values(data.gradients).map(({ errors }) => worst(errors))).toExponential(0);
  const good = `All agree: no entry of any gradient differs by more than ${most} of the largest entry of its tensor, between these ways and the equations above.`;
  byId("verdict").append(data.ok ? good : "They differ.", data.note ? ` ${data.note}.` : "");
  byId("verdict").classList.toggle("bad", !data.ok);
}
// x (T, B, I) with B = 1 as a row for each step; a bias or a state (1, 1, H) as a column.
function flat(array) {
  if (!Array.isArray(array[0])) return array.map((v) => [v]);
  if (!Array.isArray(array[0][0])) return array;
  return array.length === 1 && T > 1 ? array[0][0].map((v) => [v]) : array.flat();
}

// --- moving through the moments -----------------------------------------------------------------------------------
const slider = byId("slider");
let playing = null, writing = null;
function go(to) {
  const before = now;
  now = Math.max(0, Math.min(moments.length - 1, to));
  const moment = moments[now];
  const text = `${moment.direction === "forward" ? "Forward" : "Backward"}, step ${moment.step}, equation (${moment.number})`;
  document.body.classList.toggle("backwards", moment.direction === "backward");
  slider.value = now + 1;
  slider.setAttribute("aria-valuetext", text);
  byId("where").textContent = text;
  byId("count").textContent = `${now + 1} / ${moments.length}`;
  for (const tick of byId("ticks").children) tick.classList.toggle("here", tick.dataset.of === `${moment.direction} ${moment.step}`);
  hideTip();
  drawGraph(moment);
  drawNow(moment);
  byId("now").scrollTop = 0;
  drawJacobian(moment);
  drawValues(moment);
  byId("live").textContent = `${text}. ${moment.lines.map((index) => announced(lines[index])).join(". ")}`;
  if (now === before) return;
  clearTimeout(writing); // browsers allow few changes of the address a second
  writing = setTimeout(() => history.replaceState(null, "", `#moment=${now + 1}`), 200);
}
function announced(line) {
  const small = line.outputs.map((output) => values[output]).filter(({ rows }) => rows[0].length === 1);
  return `${line.at_step}${small.length ? `: ${small.map(({ name, rows }) => `${name} is ${spoken(rows)}`).join("; ")}` : ""}`;
}
function goToAddress() {
  const asked = location.hash.match(/^#moment=(\d+)$/);
  go(asked ? Number(asked[1]) - 1 : now);
}
function buildTicks() {
  for (const { direction, step } of moments.filter((m, n) => n === firstOf(m.direction, m.step))) {
    const wide = 1 + lastOf(direction, step) - firstOf(direction, step);
    byId("ticks").append(make("span", { class: direction, style: `flex-grow: ${wide}`, "data-of": `${direction} ${step}` }, T > 6 ? `${step}` : `step ${step}`));
  }
}
function stop() {
  clearInterval(playing);
  playing = null;
  byId("play").setAttribute("aria-pressed", "false");
  byId("play").textContent = "Play";
}
function play() {
  if (playing) return stop();
  if (now === moments.length - 1) go(0);
  byId("play").setAttribute("aria-pressed", "true");
  byId("play").textContent = "Pause";
  playing = setInterval(() => (now < moments.length - 1 ? go(now + 1) : stop()), 1600);
}
const moves = { first: () => go(0), previous: () => go(now - 1), next: () => go(now + 1), last: () => go(moments.length - 1) };
for (const [id, move] of Object.entries(moves)) byId(id).addEventListener("click", () => (stop(), move()));
byId("play").addEventListener("click", play);
slider.addEventListener("input", () => (stop(), go(Number(slider.value) - 1)));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return hideTip();
  const move = moves[{ ArrowLeft: "previous", ArrowRight: "next", Home: "first", End: "last" }[event.key]];
  if (!move || event.ctrlKey || event.altKey || event.metaKey || event.target === slider || event.target.closest?.("table")) return;
  const box = event.target.closest?.(".scroll");
  if (box && box.scrollWidth > box.clientWidth) return; // the keys scroll it
  event.preventDefault();
  stop();
  move();
});

function buildLegend() {
  const sample = ([v, text]) => make("span", { class: `n ${shade(v)}` }, text);
  const below = [[-2, "≤ −1"], [-0.5, "≤ −0.25"], [-0.1, "≤ −0.05"], [-0.01, "< 0"]].map(sample);
  const above = [[0.01, "> 0"], [0.1, "≥ 0.05"], [0.5, "≥ 0.25"], [2, "≥ 1"]].map(sample);
  byId("legend").append("negative: ", ...below, " positive: ", ...above);
}
slider.max = moments.length;
byId("module").textContent = data.module;
byId("loss").append(...data.loss.split(/([A-Za-zΣ]_[A-Za-z0-9])/).flatMap((part, n) => (n % 2 ? nameNodes(part) : [part])));
if (fields.length > 1) byId("state").textContent = ` Here the state s is ${fields.join(" above ")}.`;
byId("command").textContent = data.command;
buildLegend();
buildTicks();
buildGraph();
buildTable("forward");
buildTable("backward");
buildGiven();
buildGradients();
goToAddress();
reserveAll();
addEventListener("hashchange", goToAddress);
addEventListener("resize", () => (reserveAll(), placeTip()));
