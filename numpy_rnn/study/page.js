"use strict";
// Everything on the page is drawn from `data`, what `numpy-rnn trace --json` prints: values, lines and moments that
// refer to one another by index. `now` is the only state: which moment is shown.
const data = JSON.parse(document.getElementById("data").textContent);
const { values, lines, moments, jacobians, sizes } = data;
const T = sizes.T;
const byId = (id) => document.getElementById(id);
let now = 0;
let playing = null;

// When each value is known: the index of its line's moment; -1 of what is given. A step's Jacobian comes with (1').
const momentOfLine = new Map();
moments.forEach((moment, m) => moment.lines.forEach((line) => momentOfLine.set(line, m)));
jacobians.forEach((jacobian) => jacobian.lines.forEach((line) => momentOfLine.set(line, lastOf("backward", jacobian.step))));
const since = values.map((value) => (value.line === null ? -1 : momentOfLine.get(value.line)));

function firstOf(direction, step) {
  return moments.findIndex((m) => m.direction === direction && m.step === step);
}
function lastOf(direction, step) {
  return moments.length - 1 - [...moments].reverse().findIndex((m) => m.direction === direction && m.step === step);
}

// --- small pieces -------------------------------------------------------------------------------------------------
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "rect", "circle", "text", "tspan", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}
const number = (v) => (typeof v === "string" ? v : Math.abs(v) < 0.00005 ? "0.0000" : v.toFixed(4).replace("-", "−"));
const LEVELS = [0.05, 0.25, 1]; // magnitudes at which a colour grows stronger
function shade(v) {
  if (Math.abs(v) < 0.00005) return "p0";
  return (v > 0 ? "p" : "n") + (1 + LEVELS.filter((level) => Math.abs(v) >= level).length);
}
// W_hh -> W with a subscript hh, a_i_0 -> a with i,0, ∂h_1/∂a_i likewise.
function nameParts(text) {
  return text.split("/").map((part) => {
    const [base, ...sub] = part.replace(/[{}]/g, "").split("_");
    return [base, sub.join(",")];
  });
}
function nameNodes(text) {
  const nodes = [];
  nameParts(text).forEach(([base, sub], n) => {
    if (n) nodes.push("/");
    nodes.push(make("i", {}, base));
    if (sub) nodes.push(make("sub", {}, sub));
  });
  return nodes;
}
const names = /[∂ΣA-Za-z][A-Za-z]*(?:_(?:\{[^}]*\}|[A-Za-z0-9]+)(?:\{[^}]*\})?)?/g;
function equationNodes(text) {
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(names)) {
    nodes.push(text.slice(at, match.index));
    const word = match[0];
    nodes.push(...(["tanh", "diag", "relu"].includes(word) ? [word] : nameNodes(word)));
    at = match.index + word.length;
  }
  nodes.push(text.slice(at));
  return nodes;
}
function grid(rows) {
  const cells = rows.flatMap((row) => row.map((v) => make("span", { class: `n ${shade(v)}` }, number(v))));
  const style = `grid-template-columns: repeat(${rows[0].length}, auto)`;
  return make("span", { class: "grid", style }, ...cells);
}
function spoken(rows) {
  if (rows.every((row) => row.length === 1)) return rows.map((row) => number(row[0])).join(", ");
  return rows.map((row, r) => `row ${r + 1}: ${row.map(number).join(", ")}`).join("; ");
}

// --- a value, and what is said of it ------------------------------------------------------------------------------
function origin(value) {
  if (value.line === null) return value.meaning;
  const line = lines[value.line];
  const number = line.number === "∂" ? "the Jacobian" : `equation (${line.number})`;
  return `${value.meaning ? value.meaning + ", " : ""}${line.direction}, step ${line.step}, ${number}`;
}
function valueButton(index, extra = "") {
  const value = values[index];
  const button = make(
    "button",
    { type: "button", class: `value ${extra}`, "data-value": index, "aria-label": `${value.name}: ${spoken(value.rows)}. ${origin(value)}` },
    grid(value.rows),
  );
  return button;
}
function mini(index, text) {
  return make("span", { class: "mini" }, grid(values[index].rows), make("span", { class: "of" }, ...nameNodes(text)));
}
// The right side with numbers in the place of names, and what comes out.
function sum(line) {
  const box = make("div", { class: "sum" });
  if (line.before !== null) box.append(mini(line.before, line.left.replace(/^\[.*/, "")), "+");
  for (const { text, value } of line.right) {
    if (value !== null) box.append(mini(value, text));
    else if (/^[ᵀ²]$/.test(text) && box.lastChild.matches?.(".mini")) box.lastChild.firstChild.append(make("span", { class: "up" }, text));
    else if (text.trim()) box.append(make("span", {}, text.trim()));
  }
  box.append("=");
  for (const output of line.outputs) {
    box.append(make("span", { class: "mini" }, valueButton(output, "new" + (line.direction === "backward" ? " b" : "")), make("span", { class: "of" }, ...nameNodes(values[output].name))));
  }
  return box;
}
function badge(line) {
  return make("span", { class: `badge ${line.direction}` }, line.number === "∂" ? "∂" : `(${line.number})`);
}
function code(found) {
  const list = make("ol", { class: "code", tabindex: "0", "aria-label": "Code" });
  for (const { file, line, text } of found) {
    list.append(make("li", {}, make("span", { class: "at" }, `${file}:${line}`), text));
  }
  return list;
}
function scrolling(label, ...children) {
  return make("div", { class: "scroll", role: "group", "aria-label": label }, ...children);
}

// --- hover and focus ----------------------------------------------------------------------------------------------
const tip = byId("tip");
let described = null;
function showTip(target) {
  const value = values[Number(target.dataset.value)];
  tip.replaceChildren();
  if (value.line === null) {
    tip.append(make("div", { class: "equation" }, ...nameNodes(value.name), ` = `), grid(value.rows), make("p", { class: "remark" }, value.meaning));
  } else {
    const line = lines[value.line];
    tip.append(make("div", { class: "equation" }, badge(line), " ", ...equationNodes(line.equation)));
    tip.append(make("p", { class: "remark" }, `${line.direction}, step ${line.step}${value.meaning ? `; ${value.name} is ${value.meaning}` : ""}`));
    const put = sum(line);
    put.querySelectorAll("button").forEach((button) => button.replaceWith(...button.childNodes));
    tip.append(put);
    if (line.code.length) {
      const list = code(line.code);
      list.removeAttribute("tabindex");
      tip.append(list);
    } else tip.append(make("p", { class: "remark" }, "No line of code: backpropagation multiplies by its transpose without forming it."));
  }
  tip.hidden = false;
  if (described) described.removeAttribute("aria-describedby");
  described = target;
  target.setAttribute("aria-describedby", "tip");
  placeTip();
}
function placeTip() {
  if (!described) return;
  const box = described.getBoundingClientRect();
  const { offsetWidth: w, offsetHeight: h } = tip;
  const left = Math.max(8, Math.min(box.left, innerWidth - w - 8));
  const below = box.bottom + 6;
  tip.style.left = `${left}px`;
  tip.style.top = `${below + h < innerHeight ? below : Math.max(8, box.top - h - 6)}px`;
}
function hideTip() {
  tip.hidden = true;
  if (described) described.removeAttribute("aria-describedby");
  described = null;
}
const withValue = (event) => (event.target instanceof Element ? event.target.closest("[data-value]") : null);
document.addEventListener("pointerover", (event) => {
  const target = withValue(event);
  if (target) showTip(target);
  else if (described && !tip.contains(event.target)) hideTip();
});
document.addEventListener("focusin", (event) => {
  const target = withValue(event);
  if (target && (target.matches(":focus-visible") || target.matches("button"))) showTip(target);
  else hideTip();
});
addEventListener("scroll", placeTip, { passive: true, capture: true });
addEventListener("resize", placeTip);

// --- the unrolled graph -------------------------------------------------------------------------------------------
const WIDE = 118, LEFT = 34, MIDDLE = 92, R = 21;
const stateX = (t) => LEFT + t * WIDE;
const cellX = (t) => LEFT + (t + 0.5) * WIDE;
const edges = []; // { nodes, direction, step }
const graphNodes = []; // { node, key, known, active: (moment) => boolean }

function label(text, x, y) {
  const node = make("text", { x, y });
  nameParts(text).forEach(([base, sub]) => {
    node.append(make("tspan", { "font-style": "italic" }, base));
    if (sub) node.append(make("tspan", { class: "sub", dy: 4 }, sub));
  });
  return node;
}
function edge(svg, direction, step, x1, y1, x2, y2, bend = 0) {
  const mx = (x1 + x2) / 2, my = (y1 + y2) / 2 + bend;
  const angle = (Math.atan2(y2 - my, x2 - mx) * 180) / Math.PI;
  const path = make("path", { class: `edge ${direction}`, d: `M${x1},${y1} Q${mx},${my} ${x2},${y2}` });
  const head = make("path", { class: `head ${direction}`, d: "M0,0 L-8,-4 L-8,4 Z", transform: `translate(${x2},${y2}) rotate(${angle})` });
  svg.append(path, head);
  edges.push({ nodes: [path, head], direction, step });
}
// A vector as a row of small squares, filled as soon as it is known.
function bits(svg, name, x, y) {
  const found = [];
  const n = latest(name, moments.length).rows.length, side = Math.min(9, 30 / n);
  for (let k = 0; k < n; k++) {
    const bit = make("rect", { class: "bit none", x: x - (n * side) / 2 + k * side, y, width: side, height: side });
    svg.append(bit);
    found.push(bit);
  }
  return found;
}
// What a name stands for at a moment: the last of its values that is known by then.
function latestIndex(name, moment) {
  let found = -1;
  values.forEach((value, index) => {
    if (value.name === name && since[index] <= moment) found = index;
  });
  return found;
}
const latest = (name, moment) => values[latestIndex(name, moment)];

// A lane for each field of the state; the cell stands across all of them.
const lane = (k) => MIDDLE + 66 * k;
function buildGraph() {
  const { fields } = data;
  const bottom = lane(fields.length - 1);
  const width = stateX(T) + LEFT, height = bottom + 98;
  const least = width * 0.75, room = byId("graph").clientWidth;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width: Math.max(least, Math.min(width * 1.15, room)) });
  for (let t = 0; t < T; t++) {
    fields.forEach((_, k) => {
      edge(svg, "forward", t, stateX(t) + R, lane(k), cellX(t) - 25, lane(k));
      edge(svg, "forward", t, cellX(t) + 25, lane(k), stateX(t + 1) - R - 2, lane(k));
      const under = lane(k) === bottom ? 21 : 16;
      edge(svg, "backward", t, stateX(t + 1) - 14, lane(k) + 19, cellX(t) + (under === 21 ? 17 : 27), lane(k) + under, 14);
      edge(svg, "backward", t, cellX(t) - (under === 21 ? 17 : 26), lane(k) + under, stateX(t) + 15, lane(k) + 19, 14);
    });
    edge(svg, "forward", t, cellX(t), bottom + 61, cellX(t), bottom + 22);
    edge(svg, "loss", t + 1, stateX(t + 1), 32, stateX(t + 1), MIDDLE - R - 2);
  }
  for (let t = 0; t < T; t++) {
    const cell = node(svg, `Cell, step ${t}: go to its first equation`, null, (m) => m.step === t, () => go(firstOf(moments[now].direction, t)));
    const centre = (MIDDLE + bottom) / 2;
    cell.append(make("rect", { class: "shape", x: cellX(t) - 25, y: MIDDLE - 20, width: 50, height: bottom - MIDDLE + 40, rx: 9 }));
    cell.append(make("text", { class: "cellname", x: cellX(t), y: centre - 2 }, data.cell.split("_")[0].toUpperCase()), make("text", { class: "small", x: cellX(t), y: centre + 12 }, `step ${t}`));
    named(svg, `x_${t}`, cellX(t), bottom + 76, 15, (m) => m.direction === "forward" && m.step === t && m.number === "1");
    named(svg, `G_${t + 1}`, stateX(t + 1), 17, 15, (m) => m.direction === "backward" && m.step === t && m.number === `${lastNumber()}'`);
  }
  for (let t = 0; t <= T; t++) {
    fields.forEach((field, k) => named(svg, `${field}_${t}`, stateX(t), lane(k), R, (m) => changes(m, field, t)));
  }
  byId("graph").append(svg);
}
// Whether a moment computes this state, or adds to its gradient.
const changes = (moment, field, t) => moment.lines.some((line) => lines[line].outputs.some((output) => values[output].name === (moment.direction === "forward" ? "" : "d") + `${field}_${t}`));
const lastNumber = () => moments[lastOf("forward", 0)].number;
function node(svg, text, value, active, action) {
  const made = make("g", { class: "node", role: "button", tabindex: "0", "aria-label": text });
  made.addEventListener("click", action);
  made.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      action();
    }
  });
  svg.append(made);
  graphNodes.push({ node: made, name: value, active, bits: [], dbits: [] });
  return made;
}
function named(svg, name, x, y, r, active) {
  const made = node(svg, name, name, active, () => {
    const shown = Number(made.dataset.value);
    if (since[shown] >= 0) go(since[shown]);
    else go(firstOf("forward", 0));
  });
  made.append(make("circle", { class: "shape", cx: x, cy: y, r }));
  if (r === R) {
    made.append(label(name, x, y - 4));
    graphNodes.at(-1).bits = bits(made, name, x, y + 4);
    graphNodes.at(-1).dbits = bits(svg, `d${name}`, x, y + R + 6);
  } else made.append(label(name, x, y + 3));
}
function paint(found, name) {
  const index = latestIndex(name, now);
  found.forEach((bit, k) => {
    const known = index >= 0 && (!name.startsWith("d") || known_gradient(name));
    bit.setAttribute("class", known ? `bit ${shade(values[index].rows[k][0])}` : "bit none");
  });
}
// A state's gradient is shown as soon as its own step begins backwards.
function known_gradient(name) {
  const t = Number(name.split("_")[1]);
  return t === T ? now >= firstOf("backward", T - 1) : now >= lastOf("backward", t);
}
function drawGraph() {
  const moment = moments[now];
  const back = moment.direction === "backward";
  for (const { nodes, direction, step } of edges) {
    const kind = direction === "loss" ? "backward" : direction;
    const begun = direction === "forward" ? now >= firstOf("forward", step) : direction === "loss" ? now >= firstOf("backward", step - 1) : now >= firstOf("backward", step);
    const active = kind === moment.direction && (direction === "loss" ? step - 1 : step) === moment.step;
    for (const part of nodes) {
      part.classList.toggle("done", begun);
      part.classList.toggle("active", active);
      part.classList.toggle("backward", kind === "backward");
    }
  }
  for (const { node, name, active, bits, dbits } of graphNodes) {
    const on = active(moment);
    node.classList.toggle("active-forward", on && !back);
    node.classList.toggle("active-backward", on && back);
    if (!name) continue;
    const index = latestIndex(name, now);
    node.classList.toggle("done", index >= 0);
    if (index >= 0) node.dataset.value = index;
    else delete node.dataset.value;
    node.setAttribute("aria-label", index < 0 ? `${name}: not yet computed` : `${name}: ${spoken(values[index].rows)}. ${origin(values[index])}`);
    if (bits.length) {
      paint(bits, name);
      paint(dbits, `d${name}`);
    }
  }
  const box = byId("graph");
  if (box.scrollWidth > box.clientWidth) box.scrollLeft = ((moment.step + 0.5) / T) * box.scrollWidth - box.clientWidth / 2;
}

// --- the current moment -------------------------------------------------------------------------------------------
function drawNow() {
  const moment = moments[now];
  const word = moment.direction === "forward" ? "Forward" : "Backward";
  byId("now-title").replaceChildren(make("span", { class: moment.direction }, word), `, step ${moment.step}: equation (${moment.number})`);
  const box = byId("now");
  box.replaceChildren();
  const shown = moment.lines.map((index) => lines[index]);
  const listed = new Map();
  for (const line of shown) {
    const row = make("div", { class: "line" });
    row.append(make("div", { class: "equation" }, badge(line), " ", ...equationNodes(line.equation)));
    if (line.remark) row.append(make("p", { class: "remark" }, line.remark));
    row.append(scrolling(`Numbers of ${line.equation}`, sum(line)));
    box.append(row);
    line.code.forEach((c) => listed.set(c.line, c));
  }
  box.append(make("h3", {}, "Computed by"), code([...listed.values()].sort((a, b) => a.line - b.line)));
}

// --- the Jacobian -------------------------------------------------------------------------------------------------
function drawJacobian() {
  const moment = moments[now];
  const section = byId("jacobian-section");
  section.hidden = moment.direction === "forward";
  if (section.hidden) return;
  const t = moment.step;
  const j = jacobians.find((found) => found.step === t);
  const s = j.fields.length === 1 ? j.fields[0] : "s";
  const box = byId("jacobian");
  box.replaceChildren();
  const of = (text, rows) => make("span", { class: "mini" }, grid(rows), make("span", { class: "of" }, ...equationNodes(text)));
  const product = make(
    "div", { class: "sum" },
    of(`(∂${s}_${t + 1}/∂${s}_${t})ᵀ`, transposed(j.matrix)), of(`d${s}_${t + 1}`, j.arrived), "+", of("from the loss", j.loss), "=", of(`d${s}_${t}`, j.result),
  );
  const whole = j.fields.length === 1 ? "" : ` Here s is ${j.fields.join(" above ")}.`;
  box.append(
    make("p", { class: "remark" }, `The gradient that arrives, times the transpose of one local Jacobian, plus what the loss sends directly, is the gradient that leaves.${whole} By the product alone it leaves at most ${number(j.stretch)} times as long as it arrived, the largest singular value.`),
    scrolling("The gradient through this step", product),
    make("h3", {}, "Its factors"),
  );
  const factors = make("div", { class: "factors" });
  box.append(factors);
  for (const index of j.lines) {
    const line = lines[index];
    factors.append(make("div", { class: "line" }, make("div", { class: "equation" }, ...equationNodes(line.at_step)), scrolling(`Numbers of ${line.at_step}`, sum(line))));
  }
}
const transposed = (rows) => rows[0].map((_, c) => rows.map((row) => row[c]));

// --- all values ---------------------------------------------------------------------------------------------------
const tables = []; // { table, direction, rows: [{ row, cells: [{ cell, index }] }] }
// One row for each name that an equation gives a value to; step t stands in column t.
function buildTable(direction) {
  const table = make("table", {}, make("caption", { class: direction }, direction === "forward" ? "Forward" : "Backward"));
  const steps = [...Array(T).keys()];
  const heads = steps.map((t) => make("th", { scope: "col", class: direction }, direction === "forward" ? `step ${t} →` : `← step ${t}`));
  table.append(make("thead", {}, make("tr", {}, make("th", { scope: "col" }, make("span", { class: "hidden" }, "equation and name")), ...heads)));
  const body = make("tbody");
  const first = moments.filter((m) => m.direction === direction && m.step === (direction === "forward" ? 0 : T - 1));
  const rows = [];
  for (const moment of first) {
    moment.lines.forEach((line, n) => {
      lines[line].outputs.forEach((output, o) => {
        const cells = steps.map((t) => {
          const there = moments.find((m) => m.direction === direction && m.step === t && m.number === moment.number);
          return { cell: make("td"), index: lines[there.lines[n]].outputs[o] };
        });
        const name = genericName(lines[line], values[output].name);
        const head = make("th", { scope: "row" }, make("span", { class: "no" }, `(${moment.number})`), make("span", { class: "name" }, ...nameNodes(name)));
        if (lines[line].before !== null) head.append(make("span", { class: "hidden" }, ", the sum so far"), " +");
        const row = make("tr", {}, head, ...cells.map(({ cell }) => cell));
        body.append(row);
        rows.push({ row, cells, number: moment.number });
      });
    });
  }
  table.append(body);
  tables.push({ table, heads, direction, rows });
  table.addEventListener("keydown", moveInTable);
  byId("values").append(scrolling(`${direction} values`, table));
}
// h_3 at step 2 is h_{t+1}, i_2 is i, W_hh stays.
function genericName(line, name) {
  if (!name.includes("_") || /^d?(W|b)_|^dP/.test(name)) return name;
  const [, base, t] = name.match(/^(.*)_(\d+)$/);
  if (Number(t) === line.step + 1) return `${base}_t+1`;
  return line.left.split(/ = |; /).some((left) => left.replace(/[[\]]/g, "") === base) || base.includes("_") ? base : `${base}_t`;
}
function drawValues() {
  const moment = moments[now];
  for (const { table, heads, direction, rows } of tables) {
    if (direction === moment.direction) table.parentElement.scrollLeft = heads[moment.step].offsetLeft - table.parentElement.clientWidth / 2;
    heads.forEach((head, t) => head.classList.toggle("here", direction === moment.direction && t === moment.step));
    for (const { row, cells, number } of rows) {
      row.classList.toggle("here", direction === moment.direction && number === moment.number);
      for (const { cell, index } of cells) {
        const known = since[index] <= now;
        const fresh = since[index] === now;
        const state = known ? (fresh ? "new" : "old") : "todo";
        if (cell.dataset.state === state) continue;
        cell.dataset.state = state;
        cell.replaceChildren(known ? valueButton(index, (fresh ? "new" : "") + (direction === "backward" ? " b" : "")) : make("span", { class: "todo", "aria-label": "not yet" , role: "img" }, "·"));
      }
    }
  }
  for (const { table } of tables) {
    const buttons = [...table.querySelectorAll("button.value")];
    const chosen = table.querySelector("button.value.new") ?? buttons[0];
    buttons.forEach((button) => button.setAttribute("tabindex", button === chosen ? "0" : "-1"));
  }
}
// Arrow keys move among a table's values, which are one stop of the Tab key together.
function moveInTable(event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const cell = event.target.closest("td");
  if (!step || !cell) return;
  event.preventDefault();
  event.stopPropagation();
  const rows = [...event.currentTarget.tBodies[0].rows];
  let r = rows.indexOf(cell.parentElement) + step[0], c = cell.cellIndex + step[1];
  for (; rows[r]?.cells[c]; r += step[0], c += step[1]) {
    const target = rows[r].cells[c].querySelector("button.value");
    if (target) {
      cell.querySelector("button.value").setAttribute("tabindex", "-1");
      target.setAttribute("tabindex", "0");
      target.focus();
      return;
    }
  }
}
function buildGiven() {
  const body = make("tbody");
  for (const index of data.given) {
    body.append(make("tr", {}, make("th", { scope: "row" }, make("span", { class: "name" }, ...nameNodes(values[index].name))), make("td", {}, valueButton(index)), make("td", { class: "remark" }, values[index].meaning)));
  }
  const table = make("table", {}, make("caption", {}, "Given"), body);
  table.addEventListener("keydown", moveInTable);
  table.querySelectorAll("button.value").forEach((button, n) => button.setAttribute("tabindex", n ? "-1" : "0"));
  byId("values").append(make("details", {}, make("summary", {}, "What is given: weights, inputs, the initial state, the loss"), scrolling("given values", table)));
}

// --- the other ways to the gradients ------------------------------------------------------------------------------
function buildGradients() {
  const table = byId("gradients");
  const ways = Object.keys(Object.values(data.gradients)[0].ways).filter((way) => way !== "by equation");
  const errors = [];
  const body = make("tbody");
  for (const [name, { ways: found, errors: apart }] of Object.entries(data.gradients)) {
    const worst = Object.values(apart).reduce((a, b) => (typeof a === "string" || a > b ? a : b));
    errors.push(worst);
    const row = make("tr", {}, make("th", { scope: "row" }, make("span", { class: "name" }, ...nameNodes(name))));
    for (const way of ways) row.append(make("td", {}, grid(flat(found[way]))));
    row.append(make("td", { class: worst <= data.tolerance ? "" : "bad" }, typeof worst === "string" ? worst : worst.toExponential(0)));
    body.append(row);
  }
  const heads = ["", ...ways, "largest difference"].map((text) => make("th", { scope: "col" }, text || make("span", { class: "hidden" }, "gradient")));
  table.append(make("thead", {}, make("tr", {}, ...heads)), body);
  const good = `All agree: no entry of any gradient is further apart than ${Math.max(...errors).toExponential(0)} of its tensor's largest, over these ways and the equations above.`;
  const verdict = byId("verdict");
  verdict.append(data.ok ? good : "They differ.", data.note ? ` ${data.note}.` : "");
  if (!data.ok) verdict.className = "bad";
}
// x (T, B, I) with B = 1 as a row for each step; a bias or a state (1, 1, H) as a column.
function flat(array) {
  if (!Array.isArray(array[0])) return array.map((v) => [v]);
  if (!Array.isArray(array[0][0])) return array;
  return array.length === 1 && T > 1 ? array[0][0].map((v) => [v]) : array.flat();
}

// --- moving through the moments -----------------------------------------------------------------------------------
const slider = byId("slider");
function go(to) {
  now = Math.max(0, Math.min(moments.length - 1, to));
  const moment = moments[now];
  const text = `${moment.direction === "forward" ? "Forward" : "Backward"}, step ${moment.step}, equation (${moment.number})`;
  document.body.classList.toggle("backwards", moment.direction === "backward");
  slider.value = now;
  slider.setAttribute("aria-valuetext", text);
  byId("where").textContent = `${text}, moment ${now + 1} of ${moments.length}`;
  [...byId("ticks").children].forEach((tick) => tick.classList.toggle("here", tick.dataset.of === `${moment.direction} ${moment.step}`));
  hideTip();
  drawGraph();
  drawNow();
  drawJacobian();
  drawValues();
  byId("live").textContent = `${text}. ${moment.lines.map((index) => announced(lines[index])).join(". ")}`;
}
function announced(line) {
  const outputs = line.outputs.map((output) => values[output]);
  const small = outputs.filter(({ rows }) => rows[0].length === 1);
  return `${line.at_step}${small.length ? `: ${small.map(({ name, rows }) => `${name} is ${spoken(rows)}`).join("; ")}` : ""}`;
}
function buildTicks() {
  const steps = [...Array(T).keys()];
  for (const [direction, order] of [["forward", steps], ["backward", [...steps].reverse()]]) {
    for (const t of order) {
      const n = moments.filter((m) => m.direction === direction && m.step === t).length;
      byId("ticks").append(make("span", { class: direction, style: `flex-grow: ${n}`, "data-of": `${direction} ${t}` }, T > 6 ? `${t}` : `step ${t}`));
    }
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
slider.addEventListener("input", () => (stop(), go(Number(slider.value))));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return hideTip();
  if (event.ctrlKey || event.altKey || event.metaKey || event.target === slider) return;
  if (event.target instanceof Element && event.target.closest("table, .scroll:not(#graph), ol")) return;
  const move = { ArrowLeft: moves.previous, ArrowRight: moves.next, Home: moves.first, End: moves.last }[event.key];
  if (!move) return;
  event.preventDefault();
  stop();
  move();
});

slider.max = moments.length - 1;
byId("module").textContent = data.module;
byId("loss").append(...data.loss.split(/([A-Za-zΣ]_[A-Za-z0-9])/).flatMap((part, n) => (n % 2 ? nameNodes(part) : [part])));
byId("command").textContent = data.command;
byId("legend").append("smaller than 0: ", ...[-2, -0.5, -0.1, -0.01].map((v, n) => make("span", { class: `n ${shade(v)}` }, ["≤ −1", "≤ −0.25", "≤ −0.05", "< 0"][n])), " greater: ", ...[0.01, 0.1, 0.5, 2].map((v, n) => make("span", { class: `n ${shade(v)}` }, ["> 0", "≥ 0.05", "≥ 0.25", "≥ 1"][n])));
buildTicks();
buildGraph();
buildGiven();
buildTable("forward");
buildTable("backward");
buildGradients();
go(0);
