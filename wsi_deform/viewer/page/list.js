// The list of slides with their thumbnails and states.
import { address, byId } from "./asked.js";

const ORDER = ["done", "running", "failed", "stopped", "not started", "slide"];
const WORDS = { stopped: "cut off", slide: "" };

export class List {
  constructor(onChoice) {
    this.onChoice = onChoice;
    this.items = new Map();
    this.slides = [];
    // Thumbnails in view, which are loaded two at a time: a browser opens six connections, and tiles shall not wait.
    this.wanted = [];
    this.loading = 0;
    this.seen = new IntersectionObserver((seen) => {
      for (const { target, isIntersecting } of seen) {
        this.wanted = this.wanted.filter((each) => each !== target);
        if (isIntersecting && target.getAttribute("src") !== target.dataset.place) this.wanted.push(target);
      }
      this.load();
    });
    byId("find").addEventListener("input", () => this.filter());
  }

  /** The first slide that has something to show. */
  first() {
    return (this.slides.find((each) => each.has_mask) || this.slides[0]).id;
  }

  update(slides) {
    this.slides = slides;
    document.querySelector("main").classList.toggle("one", slides.length === 1);
    const counts = new Map();
    slides.forEach((slide, place) => {
      counts.set(slide.status, (counts.get(slide.status) || 0) + 1);
      this.item(slide, place);
    });
    const ids = new Set(slides.map((each) => each.id));
    for (const [id, item] of this.items) {
      if (!ids.has(id)) {
        item.row.remove();
        this.items.delete(id);
      }
    }
    const said = ORDER.filter((each) => counts.get(each) && WORDS[each] !== "");
    byId("counts").textContent = said.map((each) => `${counts.get(each)} ${WORDS[each] ?? each}`).join(", ");
    byId("find").hidden = slides.length < 8;
  }

  item(slide, place) {
    let item = this.items.get(slide.id);
    if (!item) {
      item = { row: document.createElement("li"), button: document.createElement("button") };
      item.button.type = "button";
      item.picture = document.createElement("img");
      item.picture.alt = "";
      item.picture.addEventListener("error", () => this.loaded(item.picture, true));
      item.picture.addEventListener("load", () => this.loaded(item.picture, false));
      item.name = document.createElement("span");
      item.name.className = "name";
      item.name.textContent = slide.id;
      item.status = document.createElement("span");
      item.button.append(item.picture, item.name, item.status);
      item.button.addEventListener("click", () => this.onChoice(slide.id));
      item.row.append(item.button);
      byId("list").insertBefore(item.row, byId("list").children[place] || null);
      this.items.set(slide.id, item);
    }
    if (item.version === slide.version) return;
    item.version = slide.version;
    item.picture.dataset.place = address(slide.id, `thumbnail.jpg?v=${slide.version}`);
    item.picture.hidden = false;
    this.seen.unobserve(item.picture);
    this.seen.observe(item.picture);
    const isRemarked = slide.status === "done" && slide.remark;
    const words = WORDS[slide.status] ?? slide.status;
    item.status.className = `status ${isRemarked ? "remark" : slide.status.replace(" ", "-")}`;
    item.status.textContent = isRemarked ? "done, with a remark" : shortened(words, slide.reason);
    item.button.title = slide.reason || slide.remark || "";
  }

  load() {
    while (this.loading < 2 && this.wanted.length) {
      const picture = this.wanted.shift();
      this.loading += 1;
      picture.src = picture.dataset.place;
    }
  }

  loaded(picture, isNone) {
    picture.hidden = isNone;
    this.loading -= 1;
    this.load();
  }

  mark(id) {
    for (const [each, item] of this.items) {
      item.button.setAttribute("aria-current", String(each === id));
      if (each === id) item.row.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }

  /** The next slide in the list, or the one before. */
  step(id, by) {
    const place = this.slides.findIndex((each) => each.id === id) + by;
    if (this.slides[place]) this.onChoice(this.slides[place].id);
  }

  filter() {
    const text = byId("find").value.toLowerCase();
    for (const [id, item] of this.items) item.row.hidden = !id.toLowerCase().includes(text);
  }
}

/** A state in a few words; the file, which the list names, is left out. */
function shortened(words, reason) {
  reason = reason.replace(/^(slide )?\S*[/\\]\S*: /, "");
  const text = reason ? `${words}: ${reason}` : words;
  return text.length > 90 ? `${text.slice(0, 88)}...` : text;
}
