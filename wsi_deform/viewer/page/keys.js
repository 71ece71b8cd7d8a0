// Keys; all of them are in the dialog that `?` opens, and in docs/view.md.
import { byId, made } from "./asked.js";

const step = (id, by) => {
  byId(id).value = Number(byId(id).value) + by;
  byId(id).dispatchEvent(new Event("input"));
};

// Keys, as they are shown; what they do, in words; what they do.
const KEYS = [
  [["ArrowLeft"], "\u2190", "move left", (page) => page.view.pan(-1, 0)],
  [["ArrowRight"], "\u2192", "move right", (page) => page.view.pan(1, 0)],
  [["ArrowUp"], "\u2191", "move up", (page) => page.view.pan(0, -1)],
  [["ArrowDown"], "\u2193", "move down", (page) => page.view.pan(0, 1)],
  [["+", "="], "+", "zoom in", (page) => page.view.zoom(1.6)],
  [["-"], "-", "zoom out", (page) => page.view.zoom(1 / 1.6)],
  [["0"], "0", "whole slide", (page) => page.view.home()],
  [["n"], "n", "next slide", (page) => page.list.step(page.shown?.id, 1)],
  [["p"], "p", "slide before", (page) => page.list.step(page.shown?.id, -1)],
  [["m"], "m", "mask, or nothing over the slide", (page) => page.legend.choose(page.legend.current === "none" && page.shown?.mask ? "mask" : "none")],
  [["["], "[", "overlay clearer", () => step("opacity", -10)],
  [["]"], "]", "overlay stronger", () => step("opacity", 10)],
  [[..."123456789"], "1 - 9", "switch a class on or off", (page, key) => page.legend.toggle(Number(key) - 1)],
  [["s"], "s", "samples", () => byId("samples-row").hidden || byId("samples").click()],
  [["f"], "f", "fields", () => byId("samples-row").hidden || byId("fields").click()],
  [["?"], "?", "this list", () => byId("help").showModal()],
];

export function bindKeys(page) {
  byId("keys").replaceChildren(...KEYS.map(([, shown, words]) => {
    const row = document.createElement("tr"), head = document.createElement("th");
    head.scope = "row";
    head.append(made("kbd", shown));
    row.append(head, made("td", words));
    return row;
  }));
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    const where = event.target;
    if (where.matches("select, input:not([type=checkbox])")) return;
    // Arrows in the list and on the panel scroll, as everywhere.
    if (event.key.startsWith("Arrow") && where !== document.body && !byId("stage").contains(where)) return;
    const found = KEYS.find(([keys]) => keys.includes(event.key));
    if (!found || !page.shown) return;
    event.preventDefault();
    found[3](page, event.key);
  }, true);
}
