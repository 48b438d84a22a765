"""Build the documentation site: `.ci/site` runs this.

    PYTHONPATH=src python website/build_site.py [FOLDER]

Writes FOLDER/pages, what the site is built from, and FOLDER/html, the site. FOLDER is site/ of the repository by default.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import html_links
import staging


def main(site: Path) -> str | None:
    """Build the site in a folder, from scratch; return a sentence if it cannot be built, or has a fault."""
    if missing := [name for name in ("zensical", "mkdocstrings_handlers.python") if not _is_installed(name)]:
        return (f"{', '.join(missing)}: not installed; run `pip install '.[docs]'`. Without a network, add "
                "`--no-index --find-links WHEELS`, a folder that `pip download -d WHEELS '.[docs]'` filled elsewhere.")
    os.environ["COLUMNS"] = "80"  # of help texts
    import reference

    for name in ("pages", "html"):  # and nothing else: the folder may hold other files
        shutil.rmtree(site / name, ignore_errors=True)
    try:
        staging.stage(site / "pages")
    except staging.DeadLinkError as error:
        return str(error)
    reference.write(site / "pages" / "reference")
    shutil.copyfile(Path(__file__).with_name("zensical.toml"), site / "zensical.toml")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    if code := subprocess.run(command, cwd=site, check=False).returncode:
        return f"zensical ended with exit code {code}; its messages above name the pages."
    found = list(html_links.faults(site / "html"))
    return "\n".join(found) or None


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package that holds it
        return False


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else staging.ROOT / "site"
    if fault := main(place):
        sys.exit(fault)
    html = place / "html"
    print(f"Open {html / 'index.html'}. The search needs a server: python -m http.server --directory {html}")
