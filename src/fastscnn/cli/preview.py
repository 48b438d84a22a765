"""A window that shows frames, with tkinter of the standard library."""

from __future__ import annotations

import tkinter

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.media import images

_SHARE = 0.8  # largest window side, relative to the screen's


class Window:
    """A window, opened at once, so that a missing display is an error before any work.

    Attributes:
        open: False once the user has closed it.
    """

    def __init__(self, title: str) -> None:
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise FastSCNNError(f"preview: no window can be opened ({error}); omit --preview.") from error
        self._root.title(title)
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self.open = True

    def show(self, image: UInt8Array) -> None:
        """Show uint8 [H, W, 3] RGB, reduced to fit the screen."""
        if not self.open:
            return
        height, width = image.shape[:2]
        fits = min(1.0, _SHARE * self._root.winfo_screenheight() / height, _SHARE * self._root.winfo_screenwidth() / width)
        image = images.resize(image, (max(1, int(height * fits)), max(1, int(width * fits))))
        header = f"P6 {image.shape[1]} {image.shape[0]} 255\n".encode()
        self._photo = tkinter.PhotoImage(data=header + image.tobytes(), format="PPM")  # kept: Tk holds no reference
        self._label.configure(image=self._photo)
        self._root.update()  # also handles a click on the close button

    def close(self) -> None:
        """Close the window; further calls do nothing."""
        if self.open:
            self.open = False
            self._root.destroy()
