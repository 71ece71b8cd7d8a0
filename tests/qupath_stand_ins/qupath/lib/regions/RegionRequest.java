package qupath.lib.regions;

import java.util.List;

public class RegionRequest extends ImageRegion {
    private final String path;
    private final double downsample;

    private RegionRequest(String path, double downsample, int x, int y, int width, int height) {
        super(x, y, width, height);
        this.path = path;
        this.downsample = downsample;
    }

    public static RegionRequest createInstance(String path, double downsample, int x, int y, int width, int height) {
        return new RegionRequest(path, downsample, x, y, width, height);
    }

    public double getDownsample() {
        return downsample;
    }

    private List<Object> key() {
        return List.of(path, downsample, getX(), getY(), getWidth(), getHeight());
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof RegionRequest && ((RegionRequest) other).key().equals(key());
    }

    @Override
    public int hashCode() {
        return key().hashCode();
    }
}
