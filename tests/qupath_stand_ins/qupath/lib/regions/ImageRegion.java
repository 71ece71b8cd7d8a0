package qupath.lib.regions;

public class ImageRegion {
    private final int x, y, width, height;

    protected ImageRegion(int x, int y, int width, int height) {
        this.x = x;
        this.y = y;
        this.width = width;
        this.height = height;
    }

    public static ImageRegion createInstance(int x, int y, int width, int height, int z, int t) {
        return new ImageRegion(x, y, width, height);
    }

    public int getX() {
        return x;
    }

    public int getY() {
        return y;
    }

    public int getWidth() {
        return width;
    }

    public int getHeight() {
        return height;
    }
}
