// Panels without a kernel: a slider calls up a figure that was drawn when the chapter was stored. plotly comes from the
// site's own folder, and only when a reader is about to touch the first panel, or sees it on a phone: before that, each
// shows its picture.
const PLOTLY = new URL("plotly.min.js", document.currentScript.src).href;
const NARROW = 600; // pixels
const SYMBOL = /\b(W|d|ε)_(0|T|t\+k|t|ref|repr)\b/g; // as in `pages.py`
const kept = new Map(); // question -> a reader's prediction
let asked;

const plotly = () => asked ??= new Promise((done, failed) => {
  const script = document.createElement("script");
  Object.assign(script, {src: PLOTLY, onload: () => done(window.Plotly), onerror: failed});
  document.head.append(script);
});

const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

async function unpacked(text) {
  return new Response(new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

// The page has the title, which wraps there; what stands beside an axis gets the room that it needs.
function fitted(data, {title, width, ...layout}) {
  const {l, r, t = 60, b} = layout.margin ?? {}, axes = {};
  for (const name of Object.keys(layout).filter(each => each.startsWith("yaxis"))) {
    axes[name] = {...layout[name], automargin: true};
  }
  const margin = {l, r, t: Math.max(28, t - 36), b};
  return [data, {...layout, ...axes, margin, autosize: true, font: {...layout.font, size: 13}}];
}

// Plotly writes arrays as base64 of doubles, lists as they are.
const numbers = part => part?.bdata ? new Float64Array(bytes(part.bdata).buffer) : part ?? [];

const span = (data, axis) => {
  const values = data.flatMap(trace => [...numbers(trace[axis])]).filter(Number.isFinite);
  return Math.max(...values) - Math.min(...values);
};

// On a phone: small letters, no names beside marks, and a plane with equal axes as high as what lies in it.
function narrowed([data, layout], room) {
  const marks = data.map(trace => ({...trace, mode: trace.mode?.replace("+text", "")}));
  const square = !layout.xaxis2 && Object.values(layout).some(each => each?.scaleanchor);
  const bars = data.some(each => each.orientation === "h");
  const high = () => room * span(data, "y") / span(data, "x") + 190; // with axis and legend
  const height = square ? Math.min(room + 40, Math.max(280, high())) : layout.height;
  const margin = {...layout.margin, l: 10, r: bars ? 24 : 16};
  const small = {...layout, margin, height, font: {...layout.font, size: 11}};
  if (bars) { // whose names take most of the width
    small.yaxis = {...layout.yaxis, tickfont: {size: 9}};
    small.xaxis = {...layout.xaxis, title: {...layout.xaxis.title, font: {size: 9}, text: wrapped(layout.xaxis.title.text)}};
  }
  return [marks, small];
}

const wrapped = text => text.replaceAll("<br>", " ").replace(/(.{14,}?) /g, "$1<br>");

function start(panel) {
  const form = panel.querySelector("form"), plot = panel.querySelector(".polkit-plot");
  const says = panel.querySelector(".polkit-says"), title = panel.querySelector(".polkit-title");
  const {figure, frames, words} = JSON.parse(panel.querySelector("script").textContent);
  const named = name => [...form.elements].filter(each => (each.name || each.id) === name);
  const fields = words.map((_, place) => named(`${panel.id}-${place}`));
  const value = field => Number((field.find(each => each.checked) ?? field[0]).value);
  let ready;
  const load = () => ready ??= Promise.all([plotly(), unpacked(frames)]);

  async function show() {
    fields.forEach((field, place) => {
      if (field[0].type !== "range") return;
      const shown = words[place][value(field)];
      field[0].setAttribute("aria-valuetext", shown);
      field[0].nextElementSibling.textContent = shown;
    });
    const [drawer, all] = await load();
    const chosen = fields.map(value); // as they stand now
    const at = chosen.reduce((sum, place, field) => sum * words[field].length + place, 0);
    const data = all[at].data.map((changes, number) => ({...figure.data[number], ...changes}));
    const layout = {...figure.layout, ...all[at].layout};
    const guess = kept.get(panel.dataset.asked);
    if (plot.querySelector("img")) plot.replaceChildren();
    title.hidden = false;
    title.innerHTML = layout.title.text; // the book's own, with its indices
    says.textContent = all[at].says + (guess === undefined ? "" : ` Your prediction: ${guess}.`);
    says.innerHTML = says.innerHTML.replace(SYMBOL, "$1<sub>$2</sub>");
    const room = plot.clientWidth, wide = fitted(data, layout);
    const drawn = room < NARROW ? narrowed(wide, room) : wide;
    await drawer.react(plot, ...drawn, {displayModeBar: false, responsive: true});
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", all[at].says);
    panel.dataset.shown = chosen.join();
  }

  if (plot.clientWidth < NARROW) { // where the picture's letters are too small
    new IntersectionObserver(([seen], watch) => {
      if (seen.isIntersecting) {
        watch.disconnect();
        show();
      }
    }).observe(panel);
  }
  panel.addEventListener("pointerover", load, {once: true});
  form.addEventListener("focusin", load, {once: true});
  form.addEventListener("input", show);
  form.addEventListener("reset", () => setTimeout(show));
  form.addEventListener("submit", event => event.preventDefault());
  document.addEventListener("polkit-kept", event => event.detail === panel.dataset.asked && show());
}

function predict(form) {
  const slider = form.querySelector("input"), shown = form.querySelector("output");
  slider.addEventListener("input", () => { shown.textContent = Number(Number(slider.value).toPrecision(3)); });
  form.addEventListener("submit", event => {
    event.preventDefault();
    kept.set(form.dataset.question, `${shown.textContent} ${form.dataset.unit}`);
    form.querySelector(".polkit-kept").textContent = `kept: ${kept.get(form.dataset.question)}`;
    document.dispatchEvent(new CustomEvent("polkit-kept", {detail: form.dataset.question}));
  });
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".polkit-panel").forEach(start);
  document.querySelectorAll(".polkit-prediction").forEach(predict);
});
