/* The toy model of superposition, trained in the page: h = W x, x' = ReLU(W^T h + b), L = sum_i I_i (x'_i - x_i)^2.
   W is a flat array of n_hidden rows of n features; samples are rows of n. All in double precision. The tests hold
   it against lib.models.toy_superposition: same start and samples, same loss, gradient and W. */
const toyModel = {
  /* Mean loss of a batch and its gradient {W, b}. */
  lossAndGradient({ W, b, n, m }, x, importance) {
    const batch = x.length / n, gW = new Float64Array(W.length), gb = new Float64Array(n);
    const h = new Float64Array(m), g = new Float64Array(n), back = new Float64Array(m);
    let loss = 0;
    for (let s = 0; s < x.length; s += n) {
      for (let k = 0; k < m; k++) {
        h[k] = 0;
        for (let i = 0; i < n; i++) h[k] += W[k * n + i] * x[s + i];
      }
      for (let i = 0; i < n; i++) {
        let p = b[i];
        for (let k = 0; k < m; k++) p += W[k * n + i] * h[k];
        const difference = Math.max(p, 0) - x[s + i];
        loss += importance[i] * difference * difference / batch;
        g[i] = p > 0 ? 2 * importance[i] * difference / batch : 0;
        gb[i] += g[i];
      }
      for (let k = 0; k < m; k++) {
        back[k] = 0;
        for (let i = 0; i < n; i++) back[k] += W[k * n + i] * g[i];
        for (let i = 0; i < n; i++) gW[k * n + i] += h[k] * g[i] + back[k] * x[s + i];
      }
    }
    return { loss, W: gW, b: gb };
  },

  /* One update of Adam, in place; state is {t, m: [W, b], v: [W, b]}. */
  adam(model, gradient, state, lr = 0.01, beta1 = 0.9, beta2 = 0.999, eps = 1e-8) {
    state.t += 1;
    for (const [at, name] of ["W", "b"].entries()) {
      const [theta, grad, m, v] = [model[name], gradient[name], state.m[at], state.v[at]];
      for (let i = 0; i < theta.length; i++) {
        m[i] = beta1 * m[i] + (1 - beta1) * grad[i];
        v[i] = beta2 * v[i] + (1 - beta2) * grad[i] * grad[i];
        theta[i] -= lr * m[i] / (1 - beta1 ** state.t) / (Math.sqrt(v[i] / (1 - beta2 ** state.t)) + eps);
      }
    }
  },

  fresh: ({ W, b }) => ({ t: 0, m: [W, b].map((a) => new Float64Array(a.length)), v: [W, b].map((a) => new Float64Array(a.length)) }),

  /* Uniform numbers in [0, 1) from a seed: the generator mulberry32, Tommy Ettinger 2017. */
  uniform(seed) {
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  },

  /* Sparse features, [batch * n]: 0 with probability `sparsity`, else uniform on [0, 1). */
  sample: (n, batch, sparsity, random) => Float64Array.from({ length: batch * n }, () => (random() < sparsity ? 0 : random())),

  /* A model as the library starts it: W normal of variance 2 / (m + n), b = 0. */
  start(n, m, random) {
    const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const W = Float64Array.from({ length: n * m }, () => normal() * Math.sqrt(2 / (m + n)));
    return { W, b: new Float64Array(n), n, m };
  },
};

document.addEventListener("DOMContentLoaded", () => {
  const room = document.querySelector(".toy-model");
  if (!room) return;
  const BATCH = 256, FIRST = 300, PER_FRAME = 10, LAST = 20000;
  const knobs = [
    ["n", "features n", 2, 20, 1, 5], ["m", "hidden units m", 1, 6, 1, 2], ["S", "sparsity S", 0, 0.99, 0.01, 0.9],
    ["decay", "importance over the one before", 0.5, 1, 0.01, 0.8], ["seed", "seed", 0, 99, 1, 0],
  ];
  const value = {}, element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  let model, state, random, importance, losses, timer = null;

  const train = (steps) => {
    const zero = importance.reduce((sum, i) => sum + i, 0) * (1 - value.S) / 3;
    for (let i = 0; i < steps; i++) {
      const gradient = toyModel.lossAndGradient(model, toyModel.sample(value.n, BATCH, value.S, random), importance);
      toyModel.adam(model, gradient, state);
      losses.push(gradient.loss / zero);
    }
    draw();
  };
  const restart = () => {
    random = toyModel.uniform(value.seed);
    model = toyModel.start(value.n, value.m, random);
    state = toyModel.fresh(model);
    importance = Array.from({ length: value.n }, (_, i) => value.decay ** i);
    losses = [];
    train(FIRST);
  };
  const play = (go) => {
    clearInterval(timer);
    timer = go ? setInterval(() => (losses.length < LAST ? train(PER_FRAME) : play(false)), 40) : null;
    toggle.textContent = go ? "Pause" : "Train on";
  };

  /* Drawing: three SVG cards. A heat map's cell is orange below 0, blue above, and says its number on hover. */
  const svg = (name, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, is] of Object.entries(attributes)) made.setAttribute(key, is);
    made.append(...children);
    return made;
  };
  const heat = (rows, columns, entry, name) => {
    const size = 100 / Math.max(rows, columns), cells = [];
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) {
        const is = entry(r, c), color = is < 0 ? "#d55e00" : "#0072b2";
        cells.push(svg("rect", { x: c * size, y: r * size, width: size, height: size, fill: color, "fill-opacity": Math.min(1, Math.abs(is)) },
          svg("title", {}, `${name} ${r + 1}, ${c + 1}: ${is.toFixed(2)}`)));
      }
    return [...cells, svg("rect", { width: columns * size, height: rows * size, class: "frame" })];
  };
  const plane = () => {
    const at = (i, k) => 50 + 33 * (k ? -1 : 1) * model.W[k * model.n + i];
    const arrows = Array.from({ length: model.n }, (_, i) => [
      svg("line", { x1: 50, y1: 50, x2: at(i, 0), y2: at(i, 1), class: "curve" }),
      svg("circle", { cx: at(i, 0), cy: at(i, 1), r: 2.2, class: "dot" }, svg("title", {}, `feature ${i + 1}`)),
    ]);
    return [svg("circle", { cx: 50, cy: 50, r: 33, class: "null" }), ...arrows.flat()];
  };
  const curve = () => {
    const every = Math.ceil(losses.length / 100), points = [];
    for (let i = 0; i < losses.length; i += every) {
      const some = losses.slice(i, i + every), mean = some.reduce((sum, l) => sum + l, 0) / some.length;
      points.push(`${100 * i / losses.length},${100 - 75 * Math.min(1.33, mean)}`);
    }
    return [svg("line", { x1: 0, y1: 25, x2: 100, y2: 25, class: "null" }), svg("polyline", { points: points.join(" "), class: "curve" }),
      svg("line", { x1: 0, y1: 100, x2: 100, y2: 100, class: "frame" })];
  };
  const draw = () => {
    const { W, n, m } = model, gram = (i, j) => {
      let sum = 0;
      for (let k = 0; k < m; k++) sum += W[k * n + i] * W[k * n + j];
      return sum;
    };
    const stored = Array.from({ length: n }, (_, i) => Math.sqrt(gram(i, i)) > 0.5).filter(Boolean).length;
    const recent = losses.slice(-100), loss = recent.reduce((sum, l) => sum + l, 0) / recent.length;
    cards[0].replaceChildren(...(m === 2 ? plane() : heat(m, n, (k, i) => W[k * n + i], "W")));
    cards[1].replaceChildren(...heat(n, n, gram, "WᵀW"));
    cards[2].replaceChildren(...curve());
    captions[0].textContent = m === 2 ? "columns of W; circle: length 1" : "W, a column per feature";
    said.textContent = `${losses.length} steps: ${stored} of ${n} features stored in ${m} dimensions, loss ${loss.toFixed(2)} of the zero predictor's`;
  };

  const fields = knobs.map(([name, label, min, max, step, start]) => {
    const slider = element("input", { type: "range", min, max, step, value: start, name }), shown = element("output", {}, String(start));
    value[name] = start;
    slider.addEventListener("input", () => {
      value[name] = Number(slider.value);
      shown.textContent = slider.value;
      restart();
    });
    return element("label", {}, element("span", {}, `${label}: `, shown), slider);
  });
  const toggle = element("button", { type: "button", onclick: () => play(timer === null) });
  const again = element("button", { type: "button", onclick: restart }, "Start again");
  const captions = ["", "WᵀW: ones on the diagonal, interference beside it", "loss over the zero predictor's (line)"].map((text) => element("figcaption", {}, text));
  const cards = captions.map((caption, i) => svg("svg", { viewBox: "-2 -2 104 104", role: "img", "aria-label": ["weights W", "overlaps WᵀW", "loss while training"][i] }));
  const said = element("p", { className: "said" });
  room.replaceChildren(element("div", { className: "knobs" }, ...fields, toggle, again), said,
    element("div", { className: "cards" }, ...cards.map((card, i) => element("figure", {}, card, captions[i]))));
  play(false);
  restart();
});
