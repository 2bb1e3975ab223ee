"""The pages as files: one that holds everything, or a page with a folder of data beside it. Neither needs a server."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from cd_exp.errors import InputError
from cd_exp.explorer.payload import PageContent, format_script
from cd_exp.io.atomic import write_file as write_file

Layout = Literal["auto", "single", "folder"]
LARGEST = 10_000_000
"""Bytes of a page that holds everything; above, `auto` writes a folder of data."""
SCRIPTS = (
    "dom",
    "data",
    "query",
    "pictures",
    "list",
    "shortlist",
    "units",
    "unit",
    "overview",
    "compare",
    "sweep",
    "main",
)
"""In the order in which they are joined."""
LIST = "written.json"
"""Names of the files in `explorer/data`: only these are removed when pages are made again."""
PART = re.compile(r'<script type="application/json" data-part="([^"]+)">(.*?)</script>', re.DOTALL)
SHEET = re.compile(r'<script type="text/plain" data-part="([^"]+)">(.*?)</script>', re.DOTALL)
RECEIVED = re.compile(r'explorer\.receive\("([^"]+)",(.*)\);\n?', re.DOTALL)


def write_pages(folder: Path, content: PageContent, *, layout: Layout = "auto", largest: int = LARGEST) -> Path:
    """Write `folder/explorer/index.html`, and `folder/explorer/data/` where one file would be too large.

    Args:
        folder: of the run; what an earlier explorer left there goes.
        content: what the pages show.
        layout: one file (`single`), a page with data beside it (`folder`), or whichever fits (`auto`).
        largest: bytes above which `auto` writes a folder.

    Returns:
        The page.
    """
    target = folder / "explorer"
    remove_old_pages(folder)
    target.mkdir(parents=True, exist_ok=True)
    parts = {name: _link_images(part, target) for name, part in content.parts.items()}
    linked = any(isinstance(part, dict) and "link" in part.get("images", ()) for part in parts.values())
    texts = {name: format_script(value) for name, value in parts.items()}
    inside = "".join(
        f'<script type="application/json" data-part="{name}">{text}</script>\n' for name, text in texts.items()
    )
    size = len(inside) + sum(4 * len(sheet) // 3 for sheet in content.sheets.values())
    if layout == "single" or (layout == "auto" and size < largest):
        inside += "".join(
            f'<script type="text/plain" data-part="{name}">{base64.b64encode(sheet).decode("ascii")}</script>\n'
            for name, sheet in content.sheets.items()
        )
        page = _fill_page(inside, content, reads_files=linked)
    else:
        data: dict[str, str | bytes] = {
            f"{name}.js": f'explorer.receive("{name}",{text});\n' for name, text in texts.items()
        }
        data |= {f"{name}.jpg": sheet for name, sheet in content.sheets.items()}
        (target / "data").mkdir(exist_ok=True)
        write_file(target / "data" / LIST, json.dumps(sorted(data)))  # first, so that a kill leaves nothing unlisted
        for name, part in data.items():
            write_file(target / "data" / name, part)
        page = _fill_page("", content, reads_files=True)
    path = target / "index.html"
    write_file(path, page)
    return path


def _link_images(part: Any, target: Path) -> Any:
    """A run's part with the way from its pages to the folder of its images (`link`) in place of that folder's path."""
    if not isinstance(part, Mapping) or "folder" not in part.get("images", ()):
        return part
    images = dict(part["images"])
    folder = images.pop("folder")
    return {**part, "images": {**images, "link": Path(os.path.relpath(folder, target)).as_posix()}}


def read_pages(folder: Path) -> PageContent:
    """What the explorer of a run folder holds.

    Raises:
        InputError: there is none, or it is not one of ours.
    """
    path = folder / "explorer" / "index.html"
    if not path.is_file():
        raise InputError(f"{folder} holds no explorer/index.html; make it with report.explorer=auto")
    text = path.read_text(encoding="utf-8")
    parts = {name: json.loads(body) for name, body in PART.findall(text)}
    sheets = {name: base64.b64decode(body) for name, body in SHEET.findall(text)}
    for file in sorted((folder / "explorer" / "data").glob("*.js")):
        match = RECEIVED.fullmatch(file.read_text(encoding="utf-8"))
        if match:
            parts[match[1]] = json.loads(match[2])
    for file in sorted((folder / "explorer" / "data").glob("*.jpg")):
        sheets[file.stem] = file.read_bytes()
    if "page" not in parts:
        raise InputError(f"{path} was not written by this program")
    return PageContent(parts, sheets)


def remove_old_pages(folder: Path) -> None:
    """Remove the explorer of an earlier run: the files it wrote, and nothing else that lies there.

    Raises:
        InputError: `explorer` or `explorer/data` is a link, behind which files are another's.
    """
    target = folder / "explorer"
    for path in (target, target / "data"):
        if path.is_symlink():
            raise InputError(f"{path} is a link, and pages are only written into a folder; remove the link")
    (target / "index.html").unlink(missing_ok=True)
    for path in _list_written(target / "data"):
        path.unlink()
    for path in (target / "data", target):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _list_written(data: Path) -> list[Path]:
    """The files of a folder of data that the explorer wrote: by its list, or before it had one by what they hold."""
    if (data / LIST).is_file():
        names = [name for name in json.loads((data / LIST).read_text(encoding="utf-8")) if Path(name).name == name]
        return [path for path in (data / name for name in [*names, LIST]) if path.is_file() or path.is_symlink()]
    scripts = [path for path in data.glob("*.js") if _is_received(path)]
    texts = "".join(path.read_text(encoding="utf-8") for path in scripts)
    return [*scripts, *(path for path in data.glob("*.jpg") if f'"{path.stem}"' in texts)]


def _is_received(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(400).startswith(f'explorer.receive("{path.stem}",'.encode())


def _fill_page(inside: str, content: PageContent, *, reads_files: bool) -> str:
    """The page with its styles and script inside, whose hashes are all that its policy lets run."""
    assets = files("cd_exp.explorer") / "assets"
    style = (assets / "explorer.css").read_text(encoding="utf-8")
    script = "".join((assets / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    beside = " 'self' file:" if reads_files else ""
    policy = (
        f"default-src 'none'; img-src data: blob:{beside}; style-src {_hash_script(style)}; "
        f"script-src {_hash_script(script)}{beside}; base-uri 'none'; form-action 'none'"
    )
    text = (assets / "explorer.html").read_text(encoding="utf-8")
    title = str(content.parts["page"]["title"]).replace("&", "&amp;").replace("<", "&lt;")
    filled = {"POLICY": policy, "TITLE": title, "STYLE": style, "DATA": inside, "SCRIPT": script}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], text)


def _hash_script(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def find_page(
    runs: Mapping[str, PageContent],
    *,
    title: str,
    homes: Mapping[str, str] | None = None,
    words: Mapping[str, str] | None = None,
    sweep: Any = None,
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> PageContent:
    """One page of one run or several: the parts of each run under a name of its own, equal sheets once.

    Args:
        runs: what is known of each.
        title: of the page.
        homes: for runs with a page of their own its address; what only the page of one unit shows is left to that.
        words: what to call a run, where that is not its key.
        sweep: the tables of a sweep, where the runs are its jobs.
        comparisons: paired tests of methods of different runs, each named `RUN/METHOD`.
    """
    homes, words = homes or {}, words or {}
    parts: dict[str, Any] = {"page": {"title": title, "runs": [], "comparisons": list(comparisons)}}
    sheets: dict[str, bytes] = {}
    for number, (name, content) in enumerate(runs.items()):
        prefix = f"{number}-"
        run = {**content.parts["run"], "key": name}
        kept = () if name in homes else content.parts
        run["layers"] = [
            {**layer, "detail": prefix + layer["detail"] if layer["detail"] in kept else ""} for layer in run["layers"]
        ]
        methods = [method["name"] for method in run["methods"]]
        about = {"key": name, "part": f"{prefix}run", "words": words.get(name, name), "methods": methods}
        about["home"] = homes.get(name, "")
        parts["page"]["runs"].append(about)
        parts[f"{prefix}run"] = run
        parts |= {prefix + part: content.parts[part] for part in kept if part != "run"}
        sheets |= content.sheets
    if sweep is not None:
        parts["page"]["sweep"] = True
        parts["sweep"] = sweep
    return PageContent(parts, sheets)


def list_runs(content: PageContent) -> dict[str, PageContent]:
    """The runs that a page holds, each as it was before `find_page`."""
    runs = {}
    for number, about in enumerate(content.parts["page"]["runs"]):
        prefix = f"{number}-"
        run = dict(content.parts[about["part"]])
        run["layers"] = [{**layer, "detail": layer["detail"].removeprefix(prefix)} for layer in run["layers"]]
        run_parts = {
            name.removeprefix(prefix): value for name, value in content.parts.items() if name.startswith(prefix)
        }
        sheets = {name: content.sheets[name] for name in run["images"]["sheets"]}
        runs[run["key"]] = PageContent({**run_parts, "run": run}, sheets)
    return runs
