package qupath.lib.io;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.zip.GZIPInputStream;
import org.locationtech.jts.geom.Coordinate;
import org.locationtech.jts.geom.Geometry;
import org.locationtech.jts.geom.GeometryFactory;
import org.locationtech.jts.geom.LinearRing;
import org.locationtech.jts.geom.Polygon;
import org.locationtech.jts.operation.valid.IsValidOp;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;

/** Features of a gzipped GeoJSON as JTS geometries; one that JTS does not find valid is an error, as in QuPath 0.6. */
public class PathIO {
    private static final GeometryFactory FACTORY = new GeometryFactory();

    public static List<PathObject> readObjects(File file) throws IOException {
        List<PathObject> found = new ArrayList<>();
        try (var text = new InputStreamReader(new GZIPInputStream(new FileInputStream(file)), StandardCharsets.UTF_8)) {
            var features = new Gson().fromJson(text, JsonObject.class).getAsJsonArray("features");
            for (var each : features)
                found.add(object(each.getAsJsonObject()));
        }
        return found;
    }

    private static PathObject object(JsonObject feature) throws IOException {
        var properties = feature.getAsJsonObject("properties");
        if (!properties.get("objectType").getAsString().equals("annotation"))
            throw new IOException("no annotation: " + properties);
        var classification = properties.getAsJsonObject("classification");
        var rgb = classification.getAsJsonArray("color");
        int colour = 0xff << 24 | rgb.get(0).getAsInt() << 16 | rgb.get(1).getAsInt() << 8 | rgb.get(2).getAsInt();
        var pathClass = PathClass.fromString(classification.get("name").getAsString(), colour);
        var geometry = geometry(feature.getAsJsonObject("geometry"));
        var problem = new IsValidOp(geometry).getValidationError();
        if (problem != null)
            throw new IOException("not valid: " + problem);
        return new PathObject(UUID.fromString(feature.get("id").getAsString()), pathClass, geometry);
    }

    private static Geometry geometry(JsonObject written) {
        var coordinates = written.getAsJsonArray("coordinates");
        if (written.get("type").getAsString().equals("Polygon"))
            return polygon(coordinates);
        var parts = new Polygon[coordinates.size()];
        for (int part = 0; part < parts.length; part++)
            parts[part] = polygon(coordinates.get(part).getAsJsonArray());
        return FACTORY.createMultiPolygon(parts);
    }

    private static Polygon polygon(JsonArray rings) {
        var holes = new LinearRing[rings.size() - 1];
        for (int ring = 1; ring < rings.size(); ring++)
            holes[ring - 1] = ring(rings.get(ring).getAsJsonArray());
        return FACTORY.createPolygon(ring(rings.get(0).getAsJsonArray()), holes);
    }

    private static LinearRing ring(JsonArray points) {
        var found = new Coordinate[points.size()];
        for (int point = 0; point < found.length; point++) {
            var pair = points.get(point).getAsJsonArray();
            found[point] = new Coordinate(pair.get(0).getAsDouble(), pair.get(1).getAsDouble());
        }
        return FACTORY.createLinearRing(found);
    }
}
