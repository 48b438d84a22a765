// Displays the picture, its labels, the legend, and the class under the pointer.

import { png } from "./png.js";

const DIMMED = 40, SOLID = 255; // alpha of the other classes while one is highlighted, and of all classes otherwise
const STEP = 0.02; // fraction of a side that an arrow key moves the point

/** @param {object} card labels.json. */
export class View {
  constructor(card) {
    this.card = card;
    this.stage = document.getElementById("stage");
    this.legend = document.getElementById("legend");
    this.probe = document.getElementById("probe");
    this.canvases = [document.getElementById("picture"), document.getElementById("labels")];
    [this.picture, this.painted] = this.canvases.map((canvas) => canvas.getContext("2d"));
    this.pane = this.canvases[1]; // the canvas under the point: the two can be side by side
    this.rows = card.names.map((name, label) => this.row(name, label));
    this.legend.replaceChildren(...this.rows);
    this.listen();
  }

  /** Draw a picture and its labels (the answer of the worker), and close its bitmap. */
  show({ bitmap, labels, counts }) {
    const { width, height } = bitmap;
    if (this.picture.canvas.width !== width || this.picture.canvas.height !== height || !this.image) {
      for (const canvas of this.canvases) [canvas.width, canvas.height] = [width, height];
      this.stage.style.setProperty("--ratio", width / height);
      this.image = this.painted.createImageData(width, height);
    }
    this.labels = labels;
    this.picture.drawImage(bitmap, 0, 0);
    bitmap.close();
    this.paint();
    counts.forEach((count, label) => this.share(this.rows[label], (100 * count) / labels.length));
    this.look();
  }

  /** Paint the labels in the colours of the classes; dim the others while one class is highlighted. */
  paint() {
    if (!this.labels) return;
    const highlighted = this.hovered ?? this.pinned;
    const colours = new Uint8Array(256 * 4);
    this.card.colours.forEach((rgb, label) => {
      colours.set([...rgb, highlighted === undefined || highlighted === label ? SOLID : DIMMED], label * 4);
    });
    const table = new Uint32Array(colours.buffer), pixels = new Uint32Array(this.image.data.buffer);
    const { labels } = this;
    for (let i = 0; i < labels.length; i++) pixels[i] = table[labels[i]];
    this.painted.putImageData(this.image, 0, 0);
  }

  /** Return a PNG of class ids, as `fastscnn segment` writes. */
  labelFile() {
    const { width, height } = this.picture.canvas;
    return png(this.labels, [height, width]);
  }

  /** Return a JPEG of the picture and its labels at the current opacity. */
  overlayFile() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.picture.canvas.width, this.picture.canvas.height];
    const context = canvas.getContext("2d");
    context.drawImage(this.picture.canvas, 0, 0);
    context.globalAlpha = Number(getComputedStyle(this.stage).getPropertyValue("--opacity"));
    context.drawImage(this.painted.canvas, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  }

  row(name, label) {
    const row = document.getElementById("row").content.firstElementChild.cloneNode(true);
    row.querySelector(".chip").style.background = `rgb(${this.card.colours[label].join(" ")})`;
    row.querySelector(".name").textContent = name;
    const button = row.querySelector("button");
    const hover = (value) => () => {
      this.hovered = value;
      this.paint();
    };
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, hover(label));
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, hover(undefined));
    button.addEventListener("click", () => {
      this.pinned = this.pinned === label ? undefined : label;
      this.rows.forEach((other, index) => other.querySelector("button").setAttribute("aria-pressed", index === this.pinned));
      this.paint();
    });
    return row;
  }

  share(row, percent) {
    const text = percent >= 10 ? percent.toFixed(0) : percent.toFixed(1);
    row.querySelector(".share").textContent = `${percent > 0 && text === "0.0" ? "<0.1" : text} %`;
    row.querySelector(".bar").style.setProperty("--share", percent / 100);
    row.classList.toggle("absent", percent === 0);
  }

  listen() {
    this.stage.addEventListener("pointermove", (event) => {
      this.pane = event.target.closest("canvas") ?? this.pane;
      const box = this.pane.getBoundingClientRect();
      this.point = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      this.look();
    });
    this.stage.addEventListener("pointerleave", () => this.leave());
    this.stage.addEventListener("blur", () => this.leave());
    this.stage.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
      if (event.key === "Escape") this.leave();
      if (!move) return;
      event.preventDefault();
      this.point = (this.point ?? [0.5, 0.5]).map((value, axis) => Math.min(0.999, Math.max(0, value + move[axis])));
      this.look();
    });
  }

  leave() {
    this.point = undefined;
    this.look();
  }

  /** Show the class under the pointer. */
  look() {
    const { width, height } = this.picture.canvas;
    const [x, y] = this.point ?? [-1, -1];
    const inside = this.labels && x >= 0 && x < 1 && y >= 0 && y < 1;
    const label = inside ? this.labels[Math.floor(y * height) * width + Math.floor(x * width)] : undefined;
    this.probe.hidden = !inside;
    this.rows.forEach((row, index) => row.classList.toggle("here", index === label));
    if (!inside) return;
    this.probe.style.left = `${this.pane.offsetLeft + x * this.pane.offsetWidth}px`;
    this.probe.style.top = `${this.pane.offsetTop + y * this.pane.offsetHeight}px`;
    this.probe.classList.toggle("left", x > 0.5);
    const [chip, name] = this.probe.children;
    chip.style.background = `rgb(${this.card.colours[label].join(" ")})`;
    if (name.textContent !== this.card.names[label]) name.textContent = this.card.names[label]; // screen readers read it out
  }
}
