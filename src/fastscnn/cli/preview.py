"""A window that shows frames, by tkinter, which Python brings along."""

from __future__ import annotations

import tkinter

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.media import images

_SHARE = 0.8  # of the screen's sides that the window may take


class Window:
    """Opened at once, so that a machine without a display says so before any work.

    Attributes:
        open: False once the user has closed it.
    """

    def __init__(self, title: str) -> None:
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise FastSCNNError(f"preview: no window can be opened ({error}); leave --preview out.") from error
        self._root.title(title)
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self.open = True

    def show(self, image: UInt8Array) -> None:
        """Shows uint8 [H, W, 3] RGB, made smaller where the screen is."""
        if not self.open:
            return
        height, width = image.shape[:2]
        fits = min(1.0, _SHARE * self._root.winfo_screenheight() / height, _SHARE * self._root.winfo_screenwidth() / width)
        image = images.resize(image, (max(1, int(height * fits)), max(1, int(width * fits))))
        header = f"P6 {image.shape[1]} {image.shape[0]} 255\n".encode()
        self._photo = tkinter.PhotoImage(data=header + image.tobytes(), format="PPM")  # kept: Tk does not hold on to it
        self._label.configure(image=self._photo)
        self._root.update()  # also tells of a click on the window's cross

    def close(self) -> None:
        """Ends the window; once is enough."""
        if self.open:
            self.open = False
            self._root.destroy()
