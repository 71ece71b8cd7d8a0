// Samples and fields, drawn over the picture.
import { address, asked, byId } from "./asked.js";

const WAIT_MS = 150;

export class Drawn {
  constructor(viewer) {
    this.viewer = viewer;
    this.canvas = byId("drawn");
    this.found = null;
    this.onCount = () => {};
    viewer.addHandler("update-viewport", () => this.draw());
    viewer.addHandler("animation", () => this.later());
    viewer.addHandler("resize", () => this.later());
    viewer.addHandler("open", () => this.later());
  }

  /** What is to be drawn: samples, fields, and not those of the classes that are hidden. */
  choose(info, samples, fields, hidden) {
    if (info !== this.info) this.found = null;
    Object.assign(this, { info, samples: samples && info.samples, fields: fields && info.samples, hidden });
    this.later();
    this.draw();
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), WAIT_MS);
  }

  async load() {
    const item = this.viewer.world.getItemAt(0), info = this.info;
    if (!item || !info || !(this.samples || this.fields)) return;
    const part = item.viewportToImageRectangle(this.viewer.viewport.getBounds());
    const box = [part.x, part.y, part.width, part.height].map((each) => Math.round(each));
    const query = `x=${box[0]}&y=${box[1]}&width=${Math.max(1, box[2])}&height=${Math.max(1, box[3])}`;
    try {
      const found = await asked(address(info.id, `samples.json?${query}`));
      if (info !== this.info) return;
      this.found = found;
      const drawn = found.x.length;
      this.onCount(!this.samples ? "" : drawn === found.count ? `${drawn.toLocaleString("en")} in view`
        : `${drawn.toLocaleString("en")} of ${found.count.toLocaleString("en")} in view`);
    } catch (error) {
      this.onCount(error.message);
    }
    this.draw();
  }

  draw() {
    const { canvas } = this, ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    const item = this.viewer.world.getItemAt(0);
    if (!item || !this.found) return;
    // Two corners place all points: the picture is never turned.
    const at = (x, y) => item.imageToViewerElementCoordinates(new window.OpenSeadragon.Point(x, y));
    const origin = at(0, 0), end = at(this.info.width, this.info.height);
    const scale = (end.x - origin.x) / this.info.width;
    const place = (x, y) => [origin.x + x * scale, origin.y + y * scale];
    if (this.fields) this.drawFields(context, place, scale);
    if (this.samples) this.drawSamples(context, place);
  }

  drawFields(context, place, scale) {
    for (const [colour, width] of [["#ffffff", 4], ["#00344f", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      for (const [x, y, w, h] of this.found.fields) context.strokeRect(...place(x, y), w * scale, h * scale);
    }
  }

  drawSamples(context, place) {
    const { x, y, labels } = this.found;
    // Dots leave room between them, however many there are.
    const apart = Math.sqrt((this.canvas.clientWidth * this.canvas.clientHeight) / Math.max(1, x.length));
    const radius = Math.min(3.5, Math.max(1.2, 0.12 * apart));
    const byClass = new Map();
    labels.forEach((label, index) => {
      if (this.hidden.has(label)) return;
      if (!byClass.has(label)) byClass.set(label, []);
      byClass.get(label).push(index);
    });
    for (const [label, members] of byClass) {
      const dots = new Path2D();
      for (const index of members) {
        const [left, top] = place(x[index], y[index]);
        dots.moveTo(left + radius, top);
        dots.arc(left, top, radius, 0, 7);
      }
      const colour = this.info.classes[label]?.colour || [0, 0, 0];
      context.fillStyle = `rgb(${colour.join(" ")})`;
      context.strokeStyle = "#1b1f24";
      context.lineWidth = 1.5;
      context.stroke(dots);
      context.fill(dots);
    }
  }
}
