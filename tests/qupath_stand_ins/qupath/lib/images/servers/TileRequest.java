package qupath.lib.images.servers;

import qupath.lib.regions.RegionRequest;

public class TileRequest {
    private final RegionRequest region;

    TileRequest(RegionRequest region) {
        this.region = region;
    }

    public RegionRequest getRegionRequest() {
        return region;
    }
}
