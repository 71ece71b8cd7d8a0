// The page: which slide is shown, what is asked of the server, and when.
import { address, asked, byId } from "./asked.js";
import { List } from "./list.js";
import { Legend } from "./legend.js";
import { View } from "./view.js";
import { bindKeys } from "./keys.js";

const POLL_MS = 3000;

/** The slide that the address names behind its #. */
function named() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

class Page {
  constructor() {
    this.shown = null;
    this.view = new View((text) => this.tell(text));
    this.legend = new Legend(this.view);
    this.view.onOpen = () => this.legend.apply();
    this.list = new List((id) => this.show(id));
    bindKeys(this);
    window.addEventListener("hashchange", () => this.show(named()));
    document.addEventListener("visibilitychange", () => document.hidden || this.poll());
    this.follow();
  }

  /** Ask again and again how far the slides are; seldom, where the answer takes long. */
  async follow() {
    const start = performance.now();
    if (!document.hidden) await this.poll();
    setTimeout(() => this.follow(), Math.max(POLL_MS, 5 * (performance.now() - start)));
  }

  tell(text) {
    byId("message").textContent = text;
    byId("message").hidden = !text;
  }

  async poll() {
    let found;
    try {
      found = await asked("slides.json");
    } catch (error) {
      this.tell(error.message);
      this.lost = true;
      return;
    }
    if (this.lost) this.tell("");
    this.lost = false;
    document.title = `${found.title} - wsi-deform`;
    byId("title").textContent = found.title;
    this.list.update(found.slides);
    const ids = found.slides.map((each) => each.id);
    const wanted = named();
    if (!this.shown && ids.length) {
      this.show(ids.includes(wanted) ? wanted : this.list.first());
    } else if (this.shown) {
      const newest = found.slides.find((each) => each.id === this.shown.id);
      if (newest && newest.version !== this.shown.version) this.show(newest.id, { again: true });
    } else {
      this.tell("There is no slide yet. This page looks again every few seconds.");
      this.lost = true;
    }
  }

  /** Show a slide; `again` keeps the place that is looked at. */
  async show(id, { again = false } = {}) {
    if (!id || (!again && this.shown?.id === id) || (this.asking === id)) return;
    this.asking = id;
    this.list.mark(id);
    this.view.busy(true);
    let info;
    try {
      info = await asked(address(id, "info.json"));
    } catch (error) {
      if (this.asking === id) this.view.busy(false);
      this.tell(error.message);
      return;
    } finally {
      if (this.asking === id) this.asking = null;
    }
    if (this.asking && this.asking !== id) return; // another one was chosen meanwhile
    this.tell("");
    this.shown = info;
    if (location.hash.slice(1) !== encodeURIComponent(id)) history.replaceState(null, "", `#${encodeURIComponent(id)}`);
    this.legend.describe(info);
    this.view.open(info, again);
    if (!info.pixels && !info.mask) {
      this.tell(info.reason ? `${info.status}: ${info.reason}` : info.remarks[0] || "There is nothing to show of this slide yet.");
    }
  }
}

new Page();
