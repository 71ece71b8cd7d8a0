package qupath.lib.images.servers;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.net.URI;

public class ImageServers {
    public static ImageServer<BufferedImage> buildServer(URI uri, String... arguments) throws IOException {
        return new TiffServer(uri);
    }
}
