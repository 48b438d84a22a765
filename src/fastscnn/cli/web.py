"""web: the browser page."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path

from fastscnn.cli.console import STDERR, STDOUT


def web(*, out: Path, ort: Path | None = None, port: int | None = None) -> int:
    """Write a web page that labels pictures, videos and a camera in the browser: static files, in --out.

    Any web server can hold the folder; what the page is shown never leaves the browser.

    Args:
        out: Folder of the page: new, empty, or written by this command before.
        ort: Folder dist of npm's onnxruntime-web; fetched by npm, once, where none is given.
        port: Then serve the folder to this machine at http://localhost:PORT until Ctrl-C.
    """
    from fastscnn import web as page
    from fastscnn.web.server import server

    with nullcontext() if port is None else server(out, port) as serving:  # before the page: a port may be taken
        with STDERR.status("writing the page"):
            written = page.write(out, ort)
        size = sum(path.stat().st_size for path in written) / 1e6
        STDOUT.print(f"{len(written)} files, {size:.1f} MB, in {out}", soft_wrap=True)
        if serving is None:
            STDOUT.print("Put the folder on any web server, or try it here: add --port 8000.")
            return 0
        STDOUT.print(f"http://localhost:{serving.server_port}, Ctrl-C ends it")
        with suppress(KeyboardInterrupt):
            serving.serve_forever()
    return 0
