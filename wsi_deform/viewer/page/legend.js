// What is known of a slide, and the switches of what is shown of it.
import { address, byId, made } from "./asked.js";

export class Legend {
  constructor(view) {
    this.view = view;
    this.off = null; // names of classes that are switched off, kept from slide to slide
    byId("overlay").addEventListener("change", () => this.choose(byId("overlay").value));
    byId("opacity").addEventListener("input", () => this.view.fade(byId("opacity").value / 100));
    byId("class").addEventListener("change", () => this.apply());
    for (const id of ["samples", "fields"]) byId(id).addEventListener("change", () => this.applyDrawn());
    this.view.drawn.onCount = (text) => { byId("sample-count").textContent = text; };
  }

  describe(info) {
    this.info = info;
    byId("name").textContent = info.id;
    byId("state").textContent = info.status === "slide" ? "" : info.status === "stopped" ? "cut off: its process is gone" : info.status;
    byId("state").className = `status ${info.status}`;
    this.remarks(info);
    this.overlays(info);
    this.classes(info);
    byId("samples-row").hidden = !info.samples;
    byId("facts").replaceChildren(...info.facts.flatMap(([name, value]) => [made("dt", name), made("dd", value)]));
    const files = [
      info.downloads.measurements && ["measurements.csv", "Areas of this slide (CSV)"],
      info.downloads.geojson && ["outlines.geojson.gz", "Outlines (GeoJSON)"],
    ].filter(Boolean);
    byId("downloads").replaceChildren(...files.map(([file, text]) => {
      const link = made("a", text);
      link.href = address(info.id, file);
      link.download = "";
      return link;
    }));
    this.applyDrawn();
  }

  remarks(info) {
    const parts = [];
    if (info.reason) parts.push(Object.assign(made("p", `failed: ${info.reason}`), { className: "failed" }));
    for (const remark of info.remarks) {
      if (remark.length < 160) parts.push(made("p", remark));
      else {
        const more = document.createElement("details");
        more.append(made("summary", `${remark.slice(0, 120)}...`), made("div", remark));
        parts.push(more);
      }
    }
    byId("remarks").replaceChildren(...parts);
  }

  overlays(info) {
    const choices = [["none", "none"]];
    if (info.mask) choices.unshift(["mask", "mask"]);
    if (info.probabilities.length) choices.push(["probabilities", "probability of a class"]);
    if (info.footprint) choices.push(["footprint", "how closely it looked"]);
    const chosen = choices.some(([value]) => value === this.overlay) ? this.overlay : choices[0][0];
    byId("overlay").replaceChildren(...choices.map(([value, text]) => new Option(text, value, false, value === chosen)));
    const kept = byId("class").selectedIndex;
    byId("class").replaceChildren(...info.probabilities.map((name, index) => new Option(name, index)));
    const sought = info.classes.findIndex((each) => !each.background);
    byId("class").selectedIndex = kept >= 0 && kept < info.probabilities.length ? kept : Math.max(0, sought);
    byId("layers").hidden = choices.length === 1 && !info.samples;
    this.current = chosen;
    this.rows(chosen);
  }

  choose(overlay) {
    this.overlay = this.current = overlay;
    byId("overlay").value = overlay;
    this.rows(overlay);
    this.apply();
  }

  rows(overlay) {
    byId("opacity-row").hidden = overlay === "none";
    byId("class-row").hidden = overlay !== "probabilities";
    byId("ramp").hidden = overlay !== "footprint";
    if (overlay === "footprint") ramp(this.info.footprint);
  }

  classes(info) {
    byId("classes").hidden = !info.classes.length;
    if (!this.off) this.off = new Set(info.classes.filter((each) => each.background).map((each) => each.name));
    byId("share-head").textContent = `of ${info.share_of}`;
    byId("area-head").textContent = info.classes.some((each) => each.mm2 != null) ? "mm\u00b2" : "px";
    const rows = info.classes.map((each, index) => {
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = !this.off.has(each.name);
      box.dataset.class = index;
      box.setAttribute("aria-label", `Show ${each.name}`);
      box.addEventListener("change", () => {
        this.off[box.checked ? "delete" : "add"](each.name);
        this.apply();
      });
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.backgroundColor = `rgb(${each.colour.join(" ")})`;
      const row = document.createElement("tr");
      const name = document.createElement("span");
      name.className = "class";
      name.append(swatch, made("span", each.name));
      const area = each.mm2 != null ? digits(each.mm2) : each.pixels != null ? each.pixels.toLocaleString("en") : "";
      row.append(cell(box), cell(name), made("td", area), made("td", each.share != null ? `${(100 * each.share).toFixed(1)} %` : ""));
      return row;
    });
    document.querySelector("#legend tbody").replaceChildren(...rows);
  }

  toggle(index) {
    const box = document.querySelector(`#legend input[data-class="${index}"]`);
    if (box) box.click();
  }

  /** Bits of the classes that are switched on, as hexadecimal digits. */
  get shown() {
    let bits = 0n;
    this.info.classes.forEach((each, index) => { if (!this.off.has(each.name)) bits |= 1n << BigInt(index); });
    return bits.toString(16);
  }

  /** What the overlay's tiles are asked for with. */
  get query() {
    if (this.current === "mask") return `show=${this.shown}`;
    return this.current === "probabilities" ? `class=${byId("class").value}` : "";
  }

  apply() {
    this.view.overlay(this.current, this.query);
    this.applyDrawn();
  }

  applyDrawn() {
    const hidden = new Set(this.info.classes.flatMap((each, index) => (this.off.has(each.name) && !each.background ? [index] : [])));
    this.view.drawn.choose(this.info, byId("samples").checked, byId("fields").checked, hidden);
    if (!byId("samples").checked && !byId("fields").checked) byId("sample-count").textContent = "";
  }
}

function cell(child) {
  const element = document.createElement("td");
  element.append(child);
  return element;
}

function digits(number) {
  return number >= 100 ? number.toFixed(0) : number === 0 ? "0" : number.toPrecision(3);
}

function ramp(footprint) {
  const canvas = byId("ramp-colours"), context = canvas.getContext("2d");
  const colours = context.createLinearGradient(0, 0, canvas.width, 0);
  footprint.stops.forEach((stop, index) => colours.addColorStop(index / (footprint.stops.length - 1), `rgb(${stop.join(" ")})`));
  context.fillStyle = colours;
  context.fillRect(0, 0, canvas.width, canvas.height);
  byId("ramp-text").textContent = `\u00b5m per sample: ${footprint.finest_um} (left) to ${footprint.coarsest_um} (right)`;
}
