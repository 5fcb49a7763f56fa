"""What an unfinished proof has come to, noted beside its folder, so that a killed prover goes on and trusts no ruin."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from polkit.checkpoints import checkpoint_name
from polkit.places import journal_path, partial_path
from polkit.proof import file_digest
from polkit.whole import write_text_whole


@dataclass(frozen=True)
class Journal:
    """file: a line with the settings' identity, then one per checkpoint in `partial`: its digest, the seconds so far.

    Appended to, not replaced, and synced to the disk only as it begins: a line that a loss of power takes away, or
    a checkpoint that it leaves without its bytes, costs the steps since, and nothing else.
    """

    file: Path
    partial: Path
    identity: str

    def begin(self) -> None:
        write_text_whole(self.file, json.dumps({"identity": self.identity}) + "\n")

    def note(self, step: int, digest: dict, wall_seconds: float) -> None:
        """digest: as `write_checkpoint` gives it."""
        with self.file.open("a") as opened:
            opened.write(json.dumps({"step": step, **digest, "wall_seconds": wall_seconds}) + "\n")

    def resume(self, steps: list[int]) -> tuple[int | None, float]:
        """The step of the last checkpoint up to which all stand as they were noted, and the seconds spent until
        then; (None, 0) for a fresh start. Whatever else is in `partial` goes. steps: of all checkpoints, in order.

        Raises FileExistsError if the folder is the unfinished proof of other settings.
        """
        lines = _lines(self.file) if self.file.is_file() and self.partial.is_dir() else []
        if not lines or set(lines[0]) != {"identity"}:
            return None, 0.0
        if lines[0]["identity"] != self.identity:
            raise FileExistsError(f"{self.partial} holds an unfinished proof of other settings: remove it")
        last, seconds, kept = None, 0.0, set()
        for step, line in zip(steps, lines[1:], strict=False):
            file = self.partial / checkpoint_name(step)
            noted = {name: line.get(name) for name in ("bytes", "sha256")}
            if line.get("step") != step or not file.is_file() or file_digest(file) != noted:
                break
            last, seconds = step, line["wall_seconds"]
            kept.add(file)
        if last is not None:
            for file in self.partial.rglob("*"):
                if file.is_file() and file not in kept:
                    file.unlink()
            text = "".join(json.dumps(line) + "\n" for line in lines[: 1 + len(kept)])
            write_text_whole(self.file, text)
        return last, seconds

    def end(self) -> None:
        if self.file.exists():  # asked first: a read-only folder does not even let a missing file be removed
            self.file.unlink()


def journal_of(folder: Path, facts: dict) -> Journal:
    """The journal of the proof that is to stand at `folder`, made with these settings and no others."""
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Journal(journal_path(folder), partial_path(folder), identity)


def _lines(file: Path) -> list[dict]:
    """The whole lines, up to the first that is none."""
    lines = []
    for text in file.read_bytes().split(b"\n")[:-1]:
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
    return lines
