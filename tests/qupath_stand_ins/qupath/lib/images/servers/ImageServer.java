package qupath.lib.images.servers;

import java.io.IOException;
import java.net.URI;
import java.util.Collection;
import qupath.lib.regions.RegionRequest;

public interface ImageServer<T> extends AutoCloseable {
    String getPath();

    Collection<URI> getURIs();

    int getWidth();

    int getHeight();

    int nResolutions();

    double getDownsampleForResolution(int level);

    ImageServerMetadata getMetadata();

    TileRequestManager getTileRequestManager();

    T readRegion(RegionRequest request) throws IOException;
}
