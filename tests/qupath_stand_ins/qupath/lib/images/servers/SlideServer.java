package qupath.lib.images.servers;

import java.awt.image.BufferedImage;
import java.net.URI;
import java.util.Collection;
import java.util.List;
import qupath.lib.regions.RegionRequest;

/** A slide of which only name and size are known. */
public class SlideServer implements ImageServer<BufferedImage> {
    private final URI uri;
    private final int width, height;

    public SlideServer(URI uri, int width, int height) {
        this.uri = uri;
        this.width = width;
        this.height = height;
    }

    @Override
    public String getPath() {
        return uri.toString();
    }

    @Override
    public Collection<URI> getURIs() {
        return List.of(uri);
    }

    @Override
    public int getWidth() {
        return width;
    }

    @Override
    public int getHeight() {
        return height;
    }

    @Override
    public int nResolutions() {
        return 1;
    }

    @Override
    public double getDownsampleForResolution(int level) {
        return 1;
    }

    @Override
    public ImageServerMetadata getMetadata() {
        return new ImageServerMetadata(uri.getPath().replaceAll(".*/", ""));
    }

    @Override
    public TileRequestManager getTileRequestManager() {
        throw new UnsupportedOperationException();
    }

    @Override
    public BufferedImage readRegion(RegionRequest request) {
        throw new UnsupportedOperationException();
    }

    @Override
    public void close() {}
}
