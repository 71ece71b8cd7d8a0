package qupath.lib.objects.classes;

import java.util.Map;
import java.util.TreeMap;

/** One instance for each name; a colour that is given later does not replace the first. */
public class PathClass {
    private static final Map<String, PathClass> KNOWN = new TreeMap<>();
    private final String name;
    private Integer colour;

    private PathClass(String name, Integer colour) {
        this.name = name;
        this.colour = colour;
    }

    public static PathClass fromString(String name, Integer colour) {
        return KNOWN.computeIfAbsent(name, each -> new PathClass(each, colour));
    }

    public static void forget() {
        KNOWN.clear();
    }

    public Integer getColor() {
        return colour;
    }

    public void setColor(Integer colour) {
        this.colour = colour;
    }

    @Override
    public String toString() {
        return name;
    }
}
