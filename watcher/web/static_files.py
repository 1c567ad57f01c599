"""The files of the page, which the package has in `watcher/web/page/`.

Guarantees: they are read once; a path is looked up among their names and never opened.
Fails: OSError if the package's own files cannot be read.
"""

from __future__ import annotations

from importlib import resources

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
START = "index.html"


def static_files() -> dict[str, tuple[bytes, str]]:
    """Return by path what each file holds, and its type."""
    found = {}
    folder = resources.files("watcher.web") / "page"
    for file in folder.iterdir() if folder.is_dir() else ():
        name = file.name
        kind = TYPES.get(name[name.rfind(".") :])
        if kind is not None:
            found["/" if name == START else f"/{name}"] = (file.read_bytes(), kind)
    return found
