package qupath.lib.gui.viewer;

public class OverlayOptions {
    public boolean showPixelClassification = true;

    public boolean getShowPixelClassification() {
        return showPixelClassification;
    }
}
