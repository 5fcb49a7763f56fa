// Panels without a kernel: a slider calls up a figure that was drawn when the chapter was stored. plotly comes from the
// site's own folder, and only when a reader is about to touch the first panel: before that, each shows its picture.
const PLOTLY = new URL("plotly.min.js", document.currentScript.src).href;
const NARROW = 600; // pixels
const kept = new Map(); // question -> a reader's prediction
let asked;

const plotly = () => asked ??= new Promise((done, failed) => {
  const script = document.createElement("script");
  Object.assign(script, {src: PLOTLY, onload: () => done(window.Plotly), onerror: failed});
  document.head.append(script);
});

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

// A title wraps in the page and not in a figure, and a narrow one needs its room for the lines.
function fitted(layout, width) {
  const {title, width: _, ...rest} = layout, narrow = width < NARROW;
  const margin = narrow ? {...rest.margin, l: 52, r: 8, t: Math.min(rest.margin?.t ?? 40, 48)} : {...rest.margin};
  if (!title?.subtitle) margin.t = Math.max(12, margin.t - 36);
  return {...rest, margin, autosize: true, font: {...rest.font, size: narrow ? 11 : 13}};
}

function start(panel) {
  const form = panel.querySelector("form"), plot = panel.querySelector(".polkit-plot");
  const says = panel.querySelector(".polkit-says"), title = panel.querySelector(".polkit-title");
  const {figure, frames, words} = JSON.parse(panel.querySelector("script").textContent);
  const fields = words.map((_, place) => [...form.elements].filter(each => (each.name || each.id) === `${panel.id}-${place}`));
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
    const at = fields.reduce((sum, field, place) => sum * words[place].length + value(field), 0); // as the sliders now stand
    const data = all[at].data.map((changes, number) => ({...figure.data[number], ...changes}));
    const layout = {...figure.layout, ...all[at].layout};
    const guess = kept.get(panel.dataset.asked);
    if (plot.querySelector("img")) plot.replaceChildren();
    title.textContent = layout.title.text;
    says.textContent = all[at].says + (guess === undefined ? "" : ` Your prediction: ${guess}.`);
    await drawer.react(plot, data, fitted(layout, plot.clientWidth), {displayModeBar: false, responsive: true});
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", all[at].says);
    panel.dataset.shown = at;
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
