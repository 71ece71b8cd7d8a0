// The picture: the slide's tiles, an overlay above them, and the scale bar.
import { address, asked, byId } from "./asked.js";
import { Drawn } from "./drawn.js";

const OpenSeadragon = window.OpenSeadragon;
const BAR_PX = 160; // the scale bar is at most so long

export class View {
  constructor(tell) {
    this.tell = tell;
    this.onOpen = () => {};
    this.opacity = 0.5;
    this.viewer = OpenSeadragon({
      element: byId("canvas"),
      drawer: "canvas", // the same pixels on every machine; tiles are drawn a few at a time
      showNavigationControl: false,
      animationTime: window.matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.4,
      maxZoomPixelRatio: 8,
      minZoomImageRatio: 0.5,
      visibilityRatio: 0.3,
      maxImageCacheCount: 300,
      imageLoaderLimit: 6,
      gestureSettingsMouse: { clickToZoom: false },
      preserveImageSizeOnResize: true,
    });
    this.drawn = new Drawn(this.viewer);
    const picture = this.viewer.canvas;
    picture.setAttribute("role", "application");
    picture.setAttribute("aria-label", "Slide. Arrow keys move, plus and minus zoom, question mark lists all keys.");
    this.viewer.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; }); // see keys.js
    this.viewer.addHandler("tile-drawing", ({ tiledImage, context }) => {
      context.imageSmoothingEnabled = tiledImage === this.pixels; // labels are never mixed
    });
    this.viewer.addHandler("tile-loaded", () => this.busy(false));
    this.viewer.addHandler("tile-load-failed", ({ tile }) => this.failed(tile));
    for (const event of ["animation", "open", "resize", "update-viewport"]) {
      this.viewer.addHandler(event, () => this.bar());
    }
    // The whole slide stays whole until somebody goes somewhere, whatever becomes of the window.
    for (const event of ["canvas-drag", "canvas-scroll", "canvas-pinch", "canvas-double-click"]) {
      this.viewer.addHandler(event, () => { this.isMoved = true; });
    }
    this.viewer.addHandler("resize", () => this.isMoved || setTimeout(() => this.home(true)));
    new OpenSeadragon.MouseTracker({
      element: this.viewer.container,
      moveHandler: (event) => this.where(event.position),
      leaveHandler: () => { byId("place").textContent = ""; },
    });
    byId("zoom-in").addEventListener("click", () => this.zoom(1.6));
    byId("zoom-out").addEventListener("click", () => this.zoom(1 / 1.6));
    byId("home").addEventListener("click", () => this.home());
  }

  /** A source of tiles of the frame; step 0 is the finest, OpenSeadragon's level 0 the coarsest. */
  source(kind, suffix, query) {
    const info = this.info, top = info.steps - 1;
    const place = address(info.id, kind);
    return {
      width: info.width,
      height: info.height,
      tileSize: info.tile,
      minLevel: 0,
      maxLevel: top,
      getTileUrl: (level, x, y) => `${place}/${top - level}/${x}_${y}.${suffix}?v=${info.version}${query ? `&${query}` : ""}`,
    };
  }

  open(info, again) {
    const samePlace = again && this.info && this.info.width === info.width && this.info.height === info.height;
    const bounds = samePlace ? this.viewer.viewport.getBounds() : null;
    this.info = info;
    this.isMoved = samePlace && this.isMoved;
    this.pixels = this.layer = null;
    this.viewer.addOnceHandler("open", () => {
      this.pixels = this.viewer.world.getItemAt(0);
      if (bounds && this.isMoved) this.viewer.viewport.fitBounds(bounds, true);
      this.onOpen();
    });
    this.viewer.open(this.source("pixels", "jpg", ""));
  }

  /** Put an overlay over the slide; the one before stays until this one is there. */
  overlay(kind, query) {
    const before = this.layer;
    const asked = (this.asked = {});
    if (kind === "none" || !this.pixels) {
      if (before) this.viewer.world.removeItem(before);
      this.layer = null;
      return;
    }
    this.viewer.addTiledImage({
      tileSource: this.source(kind, "png", query),
      opacity: this.opacity,
      success: ({ item }) => {
        if (asked !== this.asked) {
          this.viewer.world.removeItem(item);
          return;
        }
        this.layer = item;
        if (!before) return;
        const done = () => this.viewer.world.getIndexOfItem(before) >= 0 && this.viewer.world.removeItem(before);
        if (item.getFullyLoaded()) done();
        else {
          item.addOnceHandler("fully-loaded-change", done);
          setTimeout(done, 2000);
        }
      },
      error: ({ message }) => this.tell(message),
    });
  }

  fade(opacity) {
    this.opacity = opacity;
    if (this.layer) this.layer.setOpacity(opacity);
  }

  /** Whether nothing of the slide is there yet. */
  busy(isBusy) {
    byId("stage").setAttribute("aria-busy", String(isBusy));
  }

  async failed(tile) {
    this.busy(false);
    if (this.lastFailed === tile.getUrl()) return;
    this.lastFailed = tile.getUrl();
    try {
      await asked(this.lastFailed);
    } catch (error) {
      this.tell(error.message);
    }
  }

  zoom(by) {
    if (!this.pixels) return;
    this.isMoved = true;
    this.viewer.viewport.zoomBy(by);
    this.viewer.viewport.applyConstraints();
  }

  pan(x, y) {
    if (!this.pixels) return;
    this.isMoved = true;
    const part = this.viewer.viewport.getBounds();
    this.viewer.viewport.panBy(new OpenSeadragon.Point(0.2 * x * part.width, 0.2 * y * part.height));
    this.viewer.viewport.applyConstraints();
  }

  home(atOnce = false) {
    this.isMoved = false;
    if (this.pixels) this.viewer.viewport.goHome(atOnce);
  }

  /** CSS pixels of the screen per pixel of the frame. */
  get pixelsPerPx() {
    return this.pixels.viewportToImageZoom(this.viewer.viewport.getZoom(true));
  }

  bar() {
    byId("scale").hidden = !this.pixels;
    if (!this.pixels) return;
    const um = this.info.um_per_px, unit = um || 1;
    const most = (BAR_PX / this.pixelsPerPx) * unit;
    const power = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].find((each) => each * power <= most) * power;
    byId("scale-bar").style.width = `${(length / unit) * this.pixelsPerPx}px`;
    byId("scale-text").textContent = !um ? `${Number(length.toPrecision(1)).toLocaleString("en")} px`
      : length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(1))} \u00b5m`;
  }

  where(position) {
    if (!this.pixels) return;
    const point = this.pixels.viewerElementToImageCoordinates(position);
    const x = Math.floor((point.x * this.info.slide_width) / this.info.width);
    const y = Math.floor((point.y * this.info.slide_height) / this.info.height);
    const inside = x >= 0 && y >= 0 && x < this.info.slide_width && y < this.info.slide_height;
    byId("place").textContent = inside ? `${x.toLocaleString("en")}, ${y.toLocaleString("en")} px` : "";
  }
}
