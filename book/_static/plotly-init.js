/* Draws each .plotly-figure when it comes near the screen. plotly.min.js lies beside this file and is loaded
   once, and only on pages that have a figure. Colours follow the page's theme; the keyboard moves 2-D axes. */
(() => {
  const here = document.currentScript.src;
  const ink = { light: "#222222", dark: "#e4e2dd" };
  const rule = { light: "#dddddd", dark: "#3a3f45" };
  const theme = () => (document.documentElement.dataset.theme === "dark" ? "dark" : "light");
  let library;

  function load() {
    library ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = new URL("plotly.min.js", here).href;
      script.onload = () => done(window.Plotly);
      script.onerror = () => failed(new Error("plotly.min.js is missing beside plotly-init.js"));
      document.head.append(script);
    });
    return library;
  }

  /* Black lines and letters become light ones on a dark page; every other colour stays. */
  function themed(value, mode) {
    if (mode === "light") return value;
    if (typeof value === "string") return /^(#000000|#000|black|#222222)$/i.test(value) ? ink.dark : value;
    if (Array.isArray(value)) return value.map((v) => themed(v, mode));
    if (value && typeof value === "object" && !ArrayBuffer.isView(value))
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v, mode)]));
    return value;
  }

  function dressed(figure, mode, narrow) {
    const layout = themed(structuredClone(figure.layout), mode);
    const axis = { gridcolor: rule[mode], zerolinecolor: rule[mode], linecolor: ink[mode] };
    const axes = new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((k) => /^[xy]axis\d*$/.test(k))]);
    for (const name of axes) layout[name] = { automargin: true, ...layout[name], ...axis };
    const scenes = Object.keys(layout).filter((k) => /^scene\d*$/.test(k));
    for (const name of scenes)
      for (const side of ["xaxis", "yaxis", "zaxis"])
        layout[name][side] = { ...layout[name][side], gridcolor: rule[mode], showbackground: false };
    if (narrow) {
      for (const note of layout.annotations ?? []) note.font = { ...note.font, size: 11 };
      layout.legend = { ...layout.legend, orientation: "h", x: 0, y: -0.25, yanchor: "top" };
    }
    return {
      data: themed(structuredClone(figure.data), mode),
      layout: {
        margin: { l: 56, r: 16, t: 24, b: 48 }, ...layout, width: undefined, autosize: true,
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: '"Source Sans 3", "Segoe UI", system-ui, sans-serif', size: narrow ? 11 : 14, ...layout.font, color: ink[mode] },
      },
      config: { responsive: true, displaylogo: false, scrollZoom: false },
    };
  }

  async function draw(div) {
    const Plotly = await load();
    const { data, layout, config } = dressed(div.figure, theme(), div.clientWidth < 480);
    await Plotly.react(div, data, layout, config);
    if (div.figure.frames.length && !div.framed) await Plotly.addFrames(div, div.figure.frames);
    div.framed = true;
    div.dataset.drawn = theme();
  }

  function press(event) {
    const div = event.currentTarget;
    const step = { ArrowLeft: [-1, 0, 1], ArrowRight: [1, 0, 1], ArrowDown: [0, -1, 1], ArrowUp: [0, 1, 1],
      "+": [0, 0, 0.8], "=": [0, 0, 0.8], "-": [0, 0, 1.25] }[event.key];
    if (event.target !== div || !div._fullLayout?.xaxis || !(step || event.key === "0")) return;
    event.preventDefault();
    const change = {};
    for (const [name, axis] of Object.entries(div._fullLayout)) {
      if (!/^[xy]axis\d*$/.test(name)) continue;
      if (event.key === "0") { change[`${name}.autorange`] = true; continue; }
      const [low, high] = axis.range.map(Number);
      const shift = (high - low) * 0.1 * step[name[0] === "x" ? 0 : 1];
      const middle = (low + high) / 2 + shift, half = ((high - low) / 2) * step[2];
      change[`${name}.range`] = [middle - half, middle + half];
    }
    window.Plotly.relayout(div, change);
  }

  document.addEventListener("DOMContentLoaded", () => {
    const figures = [...document.querySelectorAll(".plotly-figure")];
    if (!figures.length) return;
    const seen = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries)
        if (isIntersecting) { seen.unobserve(target); draw(target); }
    }, { rootMargin: "400px" });
    for (const div of figures) {
      div.figure = JSON.parse(div.querySelector("script").textContent);
      div.replaceChildren();
      div.addEventListener("keydown", press);
      seen.observe(div);
    }
    new MutationObserver(() => figures.filter((div) => div.framed).forEach(draw))
      .observe(document.documentElement, { attributeFilter: ["data-theme"] });
  });
})();
