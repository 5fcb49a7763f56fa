"""What polkit is built on: `python tests/supply.py audit` (`make audit`) looks for what is wrong with the installed
packages, `python tests/supply.py lowest` prints pip constraints at the lowest releases that pyproject.toml allows.

The audit exits with 1 on a finding. It needs a package registry for yanked releases and for pip-audit's database of
known vulnerabilities; what it could not ask it names as not checked.
"""

import ast
import base64
import hashlib
import importlib.metadata as installed
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
COPYLEFT = re.compile(r"\bA?GPL|General Public License", re.IGNORECASE)
# Its one caller is polkit/defences/commitment.py; whoever hands polkit on together with it is bound by its licence.
KNOWN_COPYLEFT = {"pymerkle"}
EXTRAS = ("test", "snark", "app", "site", "course")  # what `make install` takes
PACKAGES = ("polkit", "polkit_course")  # what is installed of this project


def declared(extra: str = "") -> dict[str, Requirement]:
    """The requirements in pyproject.toml by name, those of an extra too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    return {name_of(each.name): each for each in map(Requirement, texts)}


def name_of(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def lowest(requirement: Requirement) -> str:
    """`name==X` of `name>=X`. Raises ValueError if it has no lower bound: then nothing says what was tested."""
    bounds = [each.version for each in requirement.specifier if each.operator == ">="]
    if len(bounds) != 1:
        raise ValueError(f"pyproject.toml: {requirement} must have one lower bound, name>=version")
    return f"{requirement.name}=={bounds[0]}"


def needed(roots: dict[str, Requirement]) -> dict[str, installed.Distribution]:
    """The installed distributions that these requirements lead to."""
    found: dict[str, installed.Distribution] = {}
    waiting = list(roots.values())
    while waiting:
        requirement = waiting.pop()
        name = name_of(requirement.name)
        if name in found:
            continue
        found[name] = installed.distribution(name)
        for text in found[name].requires or []:
            further = Requirement(text)
            wanted = {"extra": ""} if not requirement.extras else {"extra": next(iter(requirement.extras))}
            if further.marker is None or further.marker.evaluate(wanted):
                waiting.append(further)
    return found


def undeclared(folder: Path, known: dict[str, Requirement]) -> Iterator[str]:
    """Packages that the modules in a folder import, and that reach it only because something else needs them."""
    owners = installed.packages_distributions()
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {*PACKAGES}:
                if not {name_of(each) for each in owners.get(top, [])} & set(known):
                    yield f"{file.relative_to(folder.parent)} imports {top}, which pyproject.toml does not name"


def altered(distribution: installed.Distribution) -> Iterator[str]:
    """Files that are not, byte for byte, what the wheel's own RECORD says was installed."""
    for file in distribution.files or []:
        if file.hash is None:
            continue
        path = Path(file.locate())
        if not path.is_file():
            yield f"{distribution.name}: {file} is missing"
            continue
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, file.hash.mode).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            yield f"{distribution.name}: {file} is not the file that was installed"


def licence(distribution: installed.Distribution) -> str:
    metadata = distribution.metadata
    classified = [each.rpartition(":: ")[2] for each in metadata.get_all("Classifier", []) if "License" in each]
    return metadata.get("License-Expression") or "; ".join(classified) or metadata.get("License", "").partition("\n")[0]


def pip(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *arguments], check=False, capture_output=True, text=True)


def yanked(found: dict[str, installed.Distribution]) -> list[str] | None:
    """Releases that their makers have taken back, by pip's own word; None if no registry answered."""
    exact = [f"{name}=={distribution.version}" for name, distribution in found.items()]
    done = pip("pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet", *exact)
    told = re.findall(r"yanked version: '?([\w.-]+)'? candidate \(version ([^ ]+)", done.stderr)
    return [f"{name} {version} was yanked" for name, version in told] if done.returncode == 0 else None


def vulnerable(found: dict[str, installed.Distribution]) -> tuple[list[str], int]:
    """Known vulnerabilities by pip-audit, and how many packages its database knew."""
    listed = ROOT / "build" / "installed.txt"
    listed.parent.mkdir(exist_ok=True)
    listed.write_text("".join(f"{name}=={distribution.version}\n" for name, distribution in found.items()))
    done = pip("pip_audit", "--disable-pip", "--no-deps", "--format", "json", "--requirement", str(listed))
    try:
        answers = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return [], 0
    known = [each for each in answers if "vulns" in each]
    return [f"{each['name']} {each['version']}: {bug['id']}" for each in known for bug in each["vulns"]], len(known)


def audit() -> int:
    """Prints what was looked at; 1 if there is a finding."""
    direct = {name: each for extra in EXTRAS for name, each in declared(extra).items()}
    found, findings = needed(direct), []
    print(f"{len(direct)} packages named in pyproject.toml, {len(found)} with what they need")

    def report(what: str, problems: list[str] | None) -> None:
        print(f"{what}: {'NOT CHECKED' if problems is None else problems or 'nothing found'}")
        findings.extend(problems or [])

    checked = pip("pip", "check")
    report("versions that do not fit together", checked.stdout.splitlines() if checked.returncode else [])
    outside = [
        f"{name} {found[name].version} is not {r.specifier}"
        for name, r in direct.items()
        if not r.specifier.contains(found[name].version, prereleases=True)
    ]
    report("versions outside pyproject.toml", outside)
    report("no lower bound", [str(each) for each in direct.values() if ">=" not in str(each.specifier)])
    report("imported and not named", [line for name in PACKAGES for line in undeclared(ROOT / name, declared("snark"))])
    report("files other than installed", [each for distribution in found.values() for each in altered(distribution)])
    strict = [
        name
        for name in needed(declared())
        if COPYLEFT.search(licence(found[name])) and "LGPL" not in licence(found[name])
    ]
    print(f"copyleft, known: {sorted(set(strict) & KNOWN_COPYLEFT)}")
    report("copyleft, unknown", sorted(set(strict) - KNOWN_COPYLEFT))
    print(f"no licence named: {[name for name, distribution in found.items() if not licence(distribution)]}")
    report("yanked", yanked(found))
    bugs, asked = vulnerable(found)
    report(f"known vulnerabilities ({asked} of {len(found)} packages asked)", bugs if asked else None)
    print(f"{len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["audit"]:
        sys.exit(audit())
    print("\n".join(map(lowest, declared("test").values())))
