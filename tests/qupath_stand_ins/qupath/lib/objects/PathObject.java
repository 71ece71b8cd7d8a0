package qupath.lib.objects;

import java.util.UUID;
import org.locationtech.jts.geom.Geometry;
import qupath.lib.objects.classes.PathClass;

public class PathObject {
    private final UUID id;
    private final PathClass pathClass;
    public final Geometry geometry;

    public PathObject(UUID id, PathClass pathClass, Geometry geometry) {
        this.id = id;
        this.pathClass = pathClass;
        this.geometry = geometry;
    }

    public UUID getID() {
        return id;
    }

    public PathClass getPathClass() {
        return pathClass;
    }
}
