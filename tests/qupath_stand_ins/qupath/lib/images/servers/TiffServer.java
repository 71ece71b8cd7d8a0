package qupath.lib.images.servers;

import java.awt.Rectangle;
import java.awt.image.BufferedImage;
import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import javax.imageio.ImageIO;
import javax.imageio.ImageReader;
import qupath.lib.regions.RegionRequest;

/** A pyramid of the images that are chained in a TIFF, read by Java's own reader; tiles are those of the file. */
public class TiffServer implements ImageServer<BufferedImage> {
    public static int opened, closed;
    public static final List<String> reads = new ArrayList<>();
    private final URI uri;
    private final ImageReader reader;
    private final int levels;
    private final int[][] sizes; // width, height, and those of a tile; the reader itself is for one thread

    public TiffServer(URI uri) throws IOException {
        this.uri = uri;
        reader = ImageIO.getImageReadersByFormatName("tiff").next();
        reader.setInput(ImageIO.createImageInputStream(new File(uri)));
        levels = reader.getNumImages(true);
        sizes = new int[levels][];
        for (int level = 0; level < levels; level++)
            sizes[level] = new int[] {
                reader.getWidth(level), reader.getHeight(level), reader.getTileWidth(level), reader.getTileHeight(level)
            };
        opened++;
    }

    @Override
    public String getPath() {
        return "tiff: " + uri;
    }

    @Override
    public Collection<URI> getURIs() {
        return List.of(uri);
    }

    private int width(int level) {
        return sizes[level][0];
    }

    private int height(int level) {
        return sizes[level][1];
    }

    @Override
    public int getWidth() {
        return width(0);
    }

    @Override
    public int getHeight() {
        return height(0);
    }

    @Override
    public int nResolutions() {
        return levels;
    }

    @Override
    public double getDownsampleForResolution(int level) {
        return (getWidth() / (double) width(level) + getHeight() / (double) height(level)) / 2;
    }

    @Override
    public ImageServerMetadata getMetadata() {
        return new ImageServerMetadata(uri.getPath().replaceAll(".*/", ""));
    }

    private int levelOf(double downsample) {
        int best = 0;
        for (int level = 0; level < levels; level++)
            if (getDownsampleForResolution(level) <= downsample + 1e-6)
                best = level;
        return best;
    }

    @Override
    public TileRequestManager getTileRequestManager() {
        return request -> {
            int level = levelOf(request.getDownsample());
            double step = getDownsampleForResolution(level);
            Collection<TileRequest> found = new ArrayList<>();
            int side = sizes[level][2], tall = sizes[level][3];
            for (int top = 0; top < height(level); top += tall)
                for (int left = 0; left < width(level); left += side) {
                    int x = (int) Math.round(left * step), y = (int) Math.round(top * step);
                    int right = (int) Math.round(Math.min(left + side, width(level)) * step);
                    int bottom = (int) Math.round(Math.min(top + tall, height(level)) * step);
                    if (x < request.getX() + request.getWidth() && right > request.getX()
                            && y < request.getY() + request.getHeight() && bottom > request.getY())
                        found.add(new TileRequest(
                                RegionRequest.createInstance(getPath(), step, x, y, right - x, bottom - y)));
                }
            return found;
        };
    }

    @Override
    public synchronized BufferedImage readRegion(RegionRequest request) throws IOException {
        int level = levelOf(request.getDownsample());
        double step = getDownsampleForResolution(level);
        int x = (int) Math.round(request.getX() / step), y = (int) Math.round(request.getY() / step);
        int width = Math.min((int) Math.round(request.getWidth() / step), width(level) - x);
        int height = Math.min((int) Math.round(request.getHeight() / step), height(level) - y);
        reads.add(level + ": " + x + " " + y + " " + width + " " + height);
        var parameters = reader.getDefaultReadParam();
        parameters.setSourceRegion(new Rectangle(x, y, width, height));
        return reader.read(level, parameters);
    }

    @Override
    public synchronized void close() {
        reader.dispose();
        closed++;
    }
}
