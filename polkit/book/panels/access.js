// ipywidgets names no handle, and plotly draws without saying what: role, name and value are put in place whenever the
// panel changes. Of a logarithmic slider the browser would read out the exponent, so the shown number is named instead.
const set = (node, values) => {
  for (const [name, value] of Object.entries(values)) {
    if (node && node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
};
const CLASS = {attributes: true, attributeFilter: ['class']};
const WITHIN = {childList: true, subtree: true, characterData: true, attributes: true,
                attributeFilter: ['class', 'aria-valuetext']};
const labelOf = row => (row.querySelector('.widget-label')?.textContent || '').trim();

function name(panel, said) {
  for (const row of panel.querySelectorAll('.widget-slider')) {
    const label = labelOf(row), readout = row.querySelector('.widget-readout');
    const handle = row.querySelector('.noUi-handle');
    set(handle, {'aria-label': label});
    if (readout) {
      set(handle, {'aria-valuetext': readout.textContent});
      if (readout.isContentEditable) set(readout, {'role': 'textbox', 'aria-label': `${label}, typed`});
    }
  }
  for (const row of panel.querySelectorAll('.widget-toggle-buttons')) {
    set(row, {'role': 'group', 'aria-label': labelOf(row)});
    for (const button of row.querySelectorAll('button')) {
      set(button, {'aria-pressed': String(button.classList.contains('mod-active'))});
    }
  }
  for (const bar of panel.querySelectorAll('[role=progressbar], .progress')) {
    set(bar, {'role': 'progressbar', 'aria-label': 'progress'});
  }
  if (!said) return;
  for (const plot of panel.querySelectorAll('.js-plotly-plot')) set(plot, {'role': 'img', 'aria-label': said});
}

export default {
  render({model, el}) {
    let panel = null, stopped = false;
    const watch = new MutationObserver(() => look());
    const look = () => {
      if (!panel || stopped) return;
      name(panel, model.get('said'));
      for (const child of panel.children) {  // of the plot its class alone: a redraw changes a thousand nodes
        watch.observe(child, child.matches('.jupyter-widgets, .widget-toggle-buttons') ? WITHIN : CLASS);
      }
    };
    const begin = () => {
      if (stopped) return;
      panel = el.closest('.polkit-panel, .polkit-prediction');
      if (!panel) return void requestAnimationFrame(begin);
      watch.observe(panel, {childList: true});
      look();
    };
    model.on('change:said', look);
    begin();
    return () => { stopped = true; watch.disconnect(); model.off('change:said', look); };
  }
};
