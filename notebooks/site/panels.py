"""A stored panel as a part of a page: its controls, its first picture, and the figures that `panel.js` shows."""

import html
import json
from collections.abc import Mapping
from string import Template

import nbformat

from polkit.book.panels.still import STILL_TYPE

SLIDER = Template("""<div class="polkit-control"><label for="$name" title="$meaning">$label</label>
<input id="$name" type="range" min="0" max="$last" step="1" value="$first" aria-valuetext="$shown">
<output for="$name">$shown</output></div>""")
BUTTONS = Template("""<fieldset class="polkit-control"><legend title="$meaning">$label</legend>$choices</fieldset>""")
CHOICE = Template("""<label><input type="radio" name="$name" value="$place"$checked><span>$word</span></label>""")
PANEL = Template("""<div class="polkit-panel" id="$name" data-asked="$asked">
<form autocomplete="off">$controls<button type="reset">Reset</button></form>
<p class="polkit-title" hidden>$title</p>
<div class="polkit-plot"><img src="data:image/png;base64,$picture" alt="$says"></div>
<p class="polkit-says" role="status">$says</p>$runs
<script type="application/json">$data</script>
</div>""")
RUNS = Template("""
<p class="polkit-runs">$sliders: runs that were made beforehand. In a running notebook, Run makes others.</p>""")
PREDICTION = Template("""<form class="polkit-prediction" data-question="$question" data-unit="$unit" autocomplete="off">
<p><strong>Predict.</strong> $question</p>
<div class="polkit-control"><label for="$name">$unit</label>
<input id="$name" type="range" min="$min" max="$max" step="$step" value="$value">
<output for="$name">$value</output><button type="submit">Keep</button>
<span class="polkit-kept" role="status"></span></div>
</form>""")


def with_panels(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook whose stored panels are HTML, in place of the words that stand for them in other views."""
    for cell in notebook.cells:
        stills = [output["data"] for output in cell.get("outputs", []) if STILL_TYPE in output.get("data", {})]
        if stills:
            words = [data["text/plain"] for data in stills]
            cell.outputs = [each for each in cell.outputs if not is_words(each, words)]
            for number, data in enumerate(stills):
                name = f"panel-{cell.id}-{number}"
                data["text/html"] = written(name, data.pop(STILL_TYPE), data.pop("image/png", ""))
    return notebook


def is_words(output: nbformat.NotebookNode, words: list[str]) -> bool:
    """Whether an output is nothing but the words of a panel."""
    data = output.get("data", {})
    return STILL_TYPE not in data and data.get("text/plain") in words


def written(name: str, still: Mapping, picture: str) -> str:
    """A panel or a prediction as HTML; name: its id. Raises ValueError for a panel without frames or picture."""
    if "question" in still:
        texts = {"name": name, "question": still["question"], "unit": still["unit"]}
        return PREDICTION.substitute(escaped(**texts, **still["scale"]))
    if "frames" not in still or not picture:
        raise ValueError(
            f"{name} was stored without its figures: run `python -m notebooks.site.store` where a Chromium is found"
        )
    controls = "".join(control(f"{name}-{place}", one) for place, one in enumerate(still["controls"]))
    kept = {key: still[key] for key in ("figure", "frames")} | {"words": [one["words"] for one in still["controls"]]}
    data = json.dumps(kept, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    said = {"asked": still["asked"], "says": still["says"], "title": still["figure"]["layout"]["title"]["text"]}
    runs = RUNS.substitute(escaped(sliders=", ".join(still["runs"]))) if still["runs"] else ""
    return PANEL.substitute(escaped(name=name, **said), controls=controls, picture=picture, data=data, runs=runs)


def control(name: str, one: Mapping) -> str:
    """A slider, or a row of buttons, as HTML."""
    words, first = one["words"], one["first"]
    texts = escaped(name=name, label=one["label"], meaning=one["meaning"])
    if not one["buttons"]:
        return SLIDER.substitute(texts, last=len(words) - 1, first=first, shown=html.escape(words[first]))
    choices = "".join(
        CHOICE.substitute(escaped(name=name, place=place, word=word), checked=" checked" * (place == first))
        for place, word in enumerate(words)
    )
    return BUTTONS.substitute(texts, choices=choices)


def escaped(**texts: object) -> dict[str, str]:
    return {name: html.escape(str(text)) for name, text in texts.items()}
