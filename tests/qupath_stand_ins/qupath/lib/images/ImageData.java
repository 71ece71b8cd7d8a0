package qupath.lib.images;

import java.util.ArrayList;
import java.util.List;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.objects.PathObject;

public class ImageData<T> {
    private final ImageServer<T> server;
    public final List<PathObject> annotations = new ArrayList<>();

    public ImageData(ImageServer<T> server) {
        this.server = server;
    }

    public ImageServer<T> getServer() {
        return server;
    }
}
