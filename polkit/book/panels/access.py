"""What a panel lacks for readers who use a keyboard or a screen reader, added where a browser shows it."""

from pathlib import Path

import anywidget
import traitlets


class Named(anywidget.AnyWidget):
    """Belongs into the box of a panel, where it shows nothing. said: the figure in words, its alternative text."""

    _esm, _css = (Path(__file__).with_suffix(suffix) for suffix in (".js", ".css"))
    said = traitlets.Unicode("").tag(sync=True)

    def __init__(self, said: str = ""):
        super().__init__(said=said)
        self.add_class("polkit-named")
