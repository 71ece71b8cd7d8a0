package qupath.lib.gui.viewer;

import java.awt.image.BufferedImage;
import qupath.lib.gui.viewer.overlays.PathOverlay;
import qupath.lib.images.ImageData;

public class QuPathViewer {
    public ImageData<BufferedImage> imageData;
    public volatile int repaints;
    private final OverlayOptions options = new OverlayOptions();
    private PathOverlay overlay;

    public ImageData<BufferedImage> getImageData() {
        return imageData;
    }

    public OverlayOptions getOverlayOptions() {
        return options;
    }

    public void setCustomPixelLayerOverlay(PathOverlay overlay) {
        this.overlay = overlay;
    }

    public PathOverlay getCustomPixelLayerOverlay() {
        return overlay;
    }

    public void repaint() {
        repaints++;
    }
}
