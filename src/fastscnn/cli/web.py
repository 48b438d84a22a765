"""web: the browser page."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated

from fastscnn.cli.console import STDERR, configure, is_quiet, show
from fastscnn.cli.options import Quiet, Verbose, Weights, described, path, required, value

USAGE = "[options] --out DIR"


def run(
    *,
    out: Annotated[Path, path("DIR"), required("Folder of the page: new, empty, or written by this command before.")],
    weights: Weights = None,
    ort: Annotated[Path | None, path("DIR", "fetched by npm once"), described(
        "Folder dist of the npm package onnxruntime-web.")] = None,
    port: Annotated[int | None, value("PORT", int), described(
        "Also serve the page to this machine at http://localhost:PORT, until Ctrl-C.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Write a web page that segments images, videos and a camera in the browser.

    The folder holds static files for any web server. Images never leave the browser.
    """
    from fastscnn import web as page
    from fastscnn.cli.flags import note_unverified, weight_file
    from fastscnn.model import onnx_file
    from fastscnn.web.server import server

    configure(quiet, verbose)
    weights = weights and weight_file(weights)
    with nullcontext() if port is None else server(out, port) as serving:  # before writing, because the port may be in use
        with nullcontext() if is_quiet() else STDERR.status("writing the page"):
            written = page.write(out, ort, weights)
        if weights and not onnx_file.load(weights)[1].content_sha256:
            note_unverified(weights, "its card has no hash")
        size = sum(path.stat().st_size for path in written) / 1e6
        show(f"{len(written)} files, {size:.1f} MB, in {out}")
        if serving is None:
            show("Put the folder on any web server, or try it here: add --port 8000.")
            return 0
        show(f"http://localhost:{serving.server_port} (stop with Ctrl-C)")
        with suppress(KeyboardInterrupt):
            serving.serve_forever()
    return 0
