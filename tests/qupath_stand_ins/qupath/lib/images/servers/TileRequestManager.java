package qupath.lib.images.servers;

import java.util.Collection;
import qupath.lib.regions.RegionRequest;

public interface TileRequestManager {
    Collection<TileRequest> getTileRequests(RegionRequest request);
}
