// A port of all cells to JavaScript, written against docs/port/vectors.md: reads a case a line, answers with all its numbers.
// Run by `numpy-rnn vectors run -- node port.js`.
"use strict";

const readline = require("readline");

const sigmoid = (a) => (a >= 0 ? 1 / (1 + Math.exp(-a)) : Math.exp(a) / (1 + Math.exp(a)));
const zeros = (n) => new Array(n).fill(0);
const range = (n) => [...Array(n).keys()];

// ---- vectors and matrices: a matrix is {rows, columns, data}, row-major

const matrix = (rows, columns, data) => ({ rows, columns, data: data || zeros(rows * columns) });
const times = (W, x) => range(W.rows).map((i) => {
  let sum = 0;
  for (let j = 0; j < W.columns; j++) sum += W.data[i * W.columns + j] * x[j];
  return sum;
});
const timesTransposed = (W, y) => range(W.columns).map((j) => {
  let sum = 0;
  for (let i = 0; i < W.rows; i++) sum += W.data[i * W.columns + j] * y[i];
  return sum;
});
const addOuter = (dW, da, x) => {
  for (let i = 0; i < dW.rows; i++) for (let j = 0; j < dW.columns; j++) dW.data[i * dW.columns + j] += da[i] * x[j];
};
const plus = (a, b) => a.map((v, k) => v + b[k]);
const minus = (a, b) => a.map((v, k) => v - b[k]);
const mul = (a, b) => a.map((v, k) => v * b[k]);
const addTo = (a, b) => b.forEach((v, k) => { a[k] += v; });
const block = (a, k, H) => a.slice(k * H, (k + 1) * H);
const slope = { sigmoid: (s) => s.map((v) => v * (1 - v)), tanh: (h) => h.map((v) => 1 - v * v) };

// ---- cells: one step forward, one step backward. s is {h, c}; `step` keeps everything under the names of the case

const preActivation = (p, x, h) => plus(plus(times(p.W_ih, x), p.b_ih.data), plus(times(p.W_hh, h), p.b_hh.data));

function plain(f, df) {
  return {
    forward(p, x, s) {
      const a = preActivation(p, x, s.h);
      return { a, h: a.map(f) };
    },
    backward(p, k, x, s, ds, g) {
      const da = mul(ds.h, k.h.map(df));
      addTo(g.before.h, timesTransposed(p.W_hh, da));
      weights(g, da, da, x, s.h);
      return { da, dx: timesTransposed(p.W_ih, da) };
    },
  };
}

function weights(g, du, dv, x, h) {
  addOuter(g.dW_ih, du, x);
  addOuter(g.dW_hh, dv, h);
  addTo(g.db_ih.data, du);
  addTo(g.db_hh.data, dv);
}

function lstm({ peephole = false, projection = false }) {
  return {
    forward(p, x, s) {
      const H = s.c.length, a = preActivation(p, x, s.h);
      const [a_i, a_f, a_g, a_o] = range(4).map((k) => block(a, k, H));
      const P = range(3).map((k) => (peephole ? block(p.P.data, k, H) : zeros(H)));
      const i = plus(a_i, mul(P[0], s.c)).map(sigmoid), f = plus(a_f, mul(P[1], s.c)).map(sigmoid), g = a_g.map(Math.tanh);
      const c = plus(mul(f, s.c), mul(i, g));
      const o = plus(a_o, mul(P[2], c)).map(sigmoid), tanh_c = c.map(Math.tanh), m = mul(o, tanh_c);
      const all = { a_i, a_f, a_g, a_o, i, f, g, o, c, tanh_c, h: projection ? times(p.W_hr, m) : m };
      return projection ? { ...all, m } : all;
    },
    backward(p, k, x, s, ds, g) {
      const H = s.c.length, P = range(3).map((n) => (peephole ? block(p.P.data, n, H) : zeros(H)));
      const dm = projection ? timesTransposed(p.W_hr, ds.h) : ds.h;
      if (projection) addOuter(g.dW_hr, ds.h, k.m);
      const do_ = mul(dm, k.tanh_c), da_o = mul(do_, slope.sigmoid(k.o));
      const dc = plus(plus(ds.c, mul(mul(dm, k.o), slope.tanh(k.tanh_c))), mul(da_o, P[2]));
      const di = mul(dc, k.g), df = mul(dc, s.c), dg = mul(dc, k.i);
      const da_i = mul(di, slope.sigmoid(k.i)), da_f = mul(df, slope.sigmoid(k.f)), da_g = mul(dg, slope.tanh(k.g));
      const da = [...da_i, ...da_f, ...da_g, ...da_o];
      addTo(g.before.c, plus(mul(dc, k.f), plus(mul(da_i, P[0]), mul(da_f, P[1]))));
      addTo(g.before.h, timesTransposed(p.W_hh, da));
      weights(g, da, da, x, s.h);
      if (peephole) addTo(g.dP.data, [...mul(da_i, s.c), ...mul(da_f, s.c), ...mul(da_o, k.c)]);
      const all = { dc, do: do_, di, df, dg, da_i, da_f, da_g, da_o, dx: timesTransposed(p.W_ih, da) };
      return projection ? { ...all, dm } : all;
    },
  };
}

const gru = {
  forward(p, x, s) {
    const H = s.h.length, u = plus(times(p.W_ih, x), p.b_ih.data), v = plus(times(p.W_hh, s.h), p.b_hh.data);
    const [u_r, u_z, u_n] = range(3).map((k) => block(u, k, H)), [v_r, v_z, v_n] = range(3).map((k) => block(v, k, H));
    const r = plus(u_r, v_r).map(sigmoid), z = plus(u_z, v_z).map(sigmoid), n = plus(u_n, mul(r, v_n)).map(Math.tanh);
    return { u_r, u_z, u_n, v_r, v_z, v_n, r, z, n, h: plus(mul(z.map((q) => 1 - q), n), mul(z, s.h)) };
  },
  backward(p, k, x, s, ds, g) {
    const dn = mul(ds.h, k.z.map((q) => 1 - q)), dz = mul(ds.h, minus(s.h, k.n)), du_n = mul(dn, slope.tanh(k.n));
    const dv_n = mul(du_n, k.r), dr = mul(du_n, k.v_n), du_r = mul(dr, slope.sigmoid(k.r)), du_z = mul(dz, slope.sigmoid(k.z));
    const du = [...du_r, ...du_z, ...du_n], dv = [...du_r, ...du_z, ...dv_n];
    addTo(g.before.h, plus(mul(ds.h, k.z), timesTransposed(p.W_hh, dv)));
    weights(g, du, dv, x, s.h);
    return { dn, dz, du_n, dv_n, dr, du_r, du_z, dx: timesTransposed(p.W_ih, du) };
  },
};

const gruResetBefore = {
  parts(p, H) {
    return range(3).map((k) => matrix(H, H, p.W_hh.data.slice(k * H * H, (k + 1) * H * H)));
  },
  forward(p, x, s) {
    const H = s.h.length, u = plus(times(p.W_ih, x), p.b_ih.data), [W_r, W_z, W_n] = this.parts(p, H);
    const [u_r, u_z, u_n] = range(3).map((k) => block(u, k, H)), b = range(3).map((k) => block(p.b_hh.data, k, H));
    const r = plus(u_r, plus(times(W_r, s.h), b[0])).map(sigmoid), z = plus(u_z, plus(times(W_z, s.h), b[1])).map(sigmoid);
    const v_n = plus(times(W_n, mul(r, s.h)), b[2]), n = plus(u_n, v_n).map(Math.tanh);
    return { u_r, u_z, u_n, r, z, v_n, n, h: plus(mul(z.map((q) => 1 - q), n), mul(z, s.h)) };
  },
  backward(p, k, x, s, ds, g) {
    const H = s.h.length, [W_r, W_z, W_n] = this.parts(p, H), q = mul(k.r, s.h);
    const dn = mul(ds.h, k.z.map((w) => 1 - w)), dz = mul(ds.h, minus(s.h, k.n)), du_n = mul(dn, slope.tanh(k.n));
    const dq = timesTransposed(W_n, du_n), dr = mul(dq, s.h);
    const du_r = mul(dr, slope.sigmoid(k.r)), du_z = mul(dz, slope.sigmoid(k.z)), du = [...du_r, ...du_z, ...du_n];
    addTo(g.before.h, plus(plus(mul(ds.h, k.z), mul(dq, k.r)), plus(timesTransposed(W_r, du_r), timesTransposed(W_z, du_z))));
    addOuter(g.dW_ih, du, x);
    [[du_r, s.h], [du_z, s.h], [du_n, q]].forEach(([d, h], n) => {
      const part = matrix(H, H);
      addOuter(part, d, h);
      part.data.forEach((v, m) => { g.dW_hh.data[n * H * H + m] += v; });
    });
    addTo(g.db_ih.data, du);
    addTo(g.db_hh.data, du);
    return { dn, dz, du_n, dq, dr, du_r, du_z, dx: timesTransposed(p.W_ih, du) };
  },
};

const CELLS = {
  rnn_tanh: plain(Math.tanh, (h) => 1 - h * h),
  rnn_relu: plain((a) => (a > 0 ? a : 0), (h) => (h > 0 ? 1 : 0)),
  lstm: lstm({}),
  lstm_projection: lstm({ projection: true }),
  lstm_peephole: lstm({ peephole: true }),
  gru,
  gru_reset_before: gruResetBefore,
};

// ---- layers, directions, sequences

function run(request) {
  const { T, B, I, H, R, L, D } = request.sizes, cell = CELLS[request.cell], given = request.tensors;
  const number = (v) => (v === "nan" ? NaN : v === "inf" ? Infinity : v === "-inf" ? -Infinity : v);
  const data = (name) => given[name].data.map(number);
  const fields = ["W_ih", "W_hh", "b_ih", "b_hh", "W_hr", "P"], states = "c_0" in given ? ["h", "c"] : ["h"];
  const single = L === 1 && D === 1, out = {};
  const suffix = (l, d) => (single ? "" : `_l${l}${d ? "_reverse" : ""}`);
  const at = (t, b, size) => (t * B + b) * size;
  const tensor = (name, shape) => { out[name] = out[name] || { shape, data: zeros(shape.reduce((a, b) => a * b, 1)) }; return out[name].data; };
  const put = (name, t, b, values) => values.forEach((v, k) => { tensor(name, [T, B, values.length])[at(t, b, values.length) + k] = v; });
  const params = (l, d) => Object.fromEntries(fields.filter((f) => f + suffix(l, d) in given).map((f) => {
    const { shape } = given[f + suffix(l, d)];
    return [f, matrix(shape[0], shape[1] || 1, data(f + suffix(l, d)))];
  }));

  const initial = Object.fromEntries(states.map((s) => [s, data(`${s}_0`)]));
  const units = { h: R, c: H };
  const kept = {};
  let input = data("x"), size = I;
  const inputs = [];
  states.forEach((s) => tensor(`${s}_n`, [L * D, B, units[s]]));
  for (let l = 0; l < L; l++) {
    if (l > 0) input = mul(input, data(`mask_l${l - 1}`));
    inputs.push([input, size]);
    const output = zeros(T * B * D * R);
    for (let d = 0; d < D; d++) for (let b = 0; b < B; b++) {
      const p = params(l, d), n = request.lengths[b], row = ((l * D + d) * B + b);
      let s = Object.fromEntries(states.map((q) => [q, initial[q].slice(row * units[q], (row + 1) * units[q])]));
      kept[[l, d, b]] = [];
      for (let q = 0; q < n; q++) {
        const t = d ? n - 1 - q : q, x = input.slice(at(t, b, size), at(t, b, size) + size);
        const step = cell.forward(p, x, s);
        kept[[l, d, b]].push({ t, x, s, step });
        for (const [name, values] of Object.entries(step)) put(name + suffix(l, d), t, b, values);
        step.h.forEach((v, k) => { output[at(t, b, D * R) + d * R + k] = v; });
        s = { h: step.h, c: step.c };
      }
      states.forEach((q) => s[q].forEach((v, k) => { out[`${q}_n`].data[row * units[q] + k] = v; }));
    }
    input = output;
    size = D * R;
  }
  out.output = { shape: [T, B, D * R], data: input };

  let doutput = data("doutput");
  const final = Object.fromEntries(states.map((s) => [s, data(`d${s}_n`)]));
  states.forEach((s) => tensor(`d${s}_0`, [L * D, B, units[s]]));
  for (let l = L - 1; l >= 0; l--) {
    const [, columns] = inputs[l], dx = zeros(T * B * columns);
    for (let d = 0; d < D; d++) {
      const p = params(l, d), g = Object.fromEntries(Object.entries(p).map(([f, W]) => [`d${f}`, matrix(W.rows, W.columns)]));
      const running = {};
      for (let b = 0; b < B; b++) {
        const row = ((l * D + d) * B + b);
        const own = Object.fromEntries(Object.entries(p).map(([f, W]) => [`d${f}`, matrix(W.rows, W.columns)]));
        let ds = Object.fromEntries(states.map((q) => [q, final[q].slice(row * units[q], (row + 1) * units[q])]));
        for (const { t, x, s, step } of kept[[l, d, b]].slice().reverse()) {
          addTo(ds.h, doutput.slice(at(t, b, D * R) + d * R, at(t, b, D * R) + (d + 1) * R));
          own.before = Object.fromEntries(states.map((q) => [q, zeros(units[q])]));
          const back = cell.backward(p, step, x, s, ds, own);
          put(`dh${suffix(l, d)}`, t, b, ds.h);
          for (const [name, values] of Object.entries(back)) if (!(single && name === "dx")) put(name + suffix(l, d), t, b, values);
          back.dx.forEach((v, k) => { dx[at(t, b, columns) + k] += v; });
          for (const f of Object.keys(p)) {
            running[`d${f}`] = running[`d${f}`] || range(T).map(() => zeros(p[f].data.length));
            addTo(running[`d${f}`][t], own[`d${f}`].data);
          }
          ds = own.before;
        }
        Object.keys(g).forEach((f) => addTo(g[f].data, own[f].data));
        states.forEach((q) => ds[q].forEach((v, k) => { out[`d${q}_0`].data[row * units[q] + k] = v; }));
      }
      for (const f of Object.keys(p)) {
        const { shape } = given[f + suffix(l, d)];
        out[`d${f}${suffix(l, d)}`] = { shape, data: g[`d${f}`].data };
        if (single && T > 0) out[`d${f}_running`] = { shape: [T, ...shape], data: [].concat(...(running[`d${f}`] || [])) };
      }
    }
    doutput = l > 0 ? mul(dx, data(`mask_l${l - 1}`)) : dx;
  }
  out.dx = { shape: [T, B, I], data: doutput };
  return out;
}

// ---- optimizers

function optimize(request) {
  const { T } = request.sizes, given = request.tensors, out = {};
  const number = (name) => Number(given[name].data[0]), g = given.g.data, size = g.length / T;
  const put = (name, values) => {
    const shape = Array.isArray(values) ? [T, ...given.p_0.shape] : [T];
    out[name] = out[name] || { shape, data: [] };
    out[name].data = out[name].data.concat(values);
  };
  let p = given.p_0.data.slice(), b, m = zeros(size), v = zeros(size);
  for (let t = 0; t < T; t++) {
    const g_t = g.slice(t * size, (t + 1) * size);
    if (request.cell === "sgd") {
      const d = g_t.map((x, k) => x + number("weight_decay") * p[k]);
      b = t === 0 ? d : d.map((x, k) => number("momentum") * b[k] + x);
      p = p.map((x, k) => x - number("lr") * b[k]);
      Object.entries({ d, b, p }).forEach(([name, values]) => put(name, values));
    } else if (request.cell === "adam") {
      const beta1 = number("beta1"), beta2 = number("beta2");
      m = m.map((x, k) => beta1 * x + (1 - beta1) * g_t[k]);
      v = v.map((x, k) => beta2 * x + (1 - beta2) * g_t[k] * g_t[k]);
      const m_hat = m.map((x) => x / (1 - beta1 ** (t + 1))), v_hat = v.map((x) => x / (1 - beta2 ** (t + 1)));
      p = p.map((x, k) => x - number("lr") * m_hat[k] / (Math.sqrt(v_hat[k]) + number("eps")));
      Object.entries({ m, v, m_hat, v_hat, p }).forEach(([name, values]) => put(name, values));
    } else {
      const norm = Math.sqrt(g_t.reduce((sum, x) => sum + x * x, 0)), scale = Math.min(1, number("max_norm") / (norm + 1e-6));
      put("norm", norm);
      put("scale", scale);
      put("clipped", g_t.map((x) => scale * x));
    }
  }
  return out;
}

const written = (v) => (Number.isFinite(v) ? v : Number.isNaN(v) ? "nan" : v > 0 ? "inf" : "-inf");

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const request = JSON.parse(line), tensors = request.cell in CELLS ? run(request) : optimize(request);
  for (const tensor of Object.values(tensors)) tensor.data = tensor.data.map(written);
  process.stdout.write(JSON.stringify({ tensors }) + "\n");
});
