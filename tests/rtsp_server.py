"""An RTSP server by GStreamer: `python3 rtsp_server.py PORT SIZE RATE [USER PASSWORD]`, with the system's Python, which has gi.

It prints "ready", and sends H.264 at rtsp://127.0.0.1:PORT/live. Each frame shows the time at which it was drawn, in
milliseconds of the monotonic clock: 32 bits in a row at the bottom, the lowest first, each as two squares (white, black: 1;
black, white: 0).
"""

import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - after the versions are chosen

BITS, ROWS = 32, 16  # of the time; pixels of its height


def frame(height: int, width: int, number: int) -> bytes:
    """Draw a frame in I420: a grey ramp that moves, and the time."""
    ramp = bytes((2 * (x + number)) & 127 for x in range(128)) * (width // 128 + 1)
    side = width // (2 * BITS)
    now = time.monotonic_ns() // 1_000_000
    bits = b"".join((b"\xeb" * side + b"\x10" * side) if now >> bit & 1 else (b"\x10" * side + b"\xeb" * side)
                    for bit in range(BITS))
    luma = ramp[:width] * (height - ROWS) + bits.ljust(width, b"\x10") * ROWS
    return luma + b"\x80" * (height * width // 2)


def draw(source: Gst.Element, height: int, width: int, rate: int) -> None:
    """Push frames at their times until the last client has left."""
    start, number = time.monotonic(), 0
    while source.emit("push-buffer", Gst.Buffer.new_wrapped(frame(height, width, number))) == Gst.FlowReturn.OK:
        number += 1
        time.sleep(max(0.0, start + number / rate - time.monotonic()))


def main() -> None:
    """Serve until the process is killed."""
    port, size, rate, *user = sys.argv[1:]
    height, width = map(int, size.split("x"))
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( appsrc name=source is-live=true do-timestamp=true format=time block=true max-buffers=1 "
        f"caps=video/x-raw,format=I420,width={width},height={height},framerate={rate}/1 "
        f"! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={rate} ! rtph264pay name=pay0 config-interval=1 )"
    )
    factory.set_shared(True)

    def configured(_: object, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_by_name("source")
        threading.Thread(target=draw, args=(source, height, width, int(rate)), daemon=True).start()

    factory.connect("media-configure", configured)
    if user:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "user")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(*user), token)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("user", "media.factory.access", True)
        permissions.add_permission_for_role("user", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/live", factory)
    if server.attach(None) == 0:
        sys.exit(f"port {port} is in use")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
