package qupath.lib.gui.scripting;

import java.awt.image.BufferedImage;
import java.util.ArrayList;
import java.util.Collection;
import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

public class QPEx {
    public static ImageData<BufferedImage> current;
    public static QuPathViewer viewer;

    public static ImageData<BufferedImage> getCurrentImageData() {
        return current;
    }

    public static QuPathViewer getCurrentViewer() {
        return viewer;
    }

    public static Collection<PathObject> getAnnotationObjects() {
        return new ArrayList<>(current.annotations);
    }

    public static boolean removeObjects(Collection<PathObject> objects, boolean keepChildren) {
        return current.annotations.removeAll(objects);
    }

    public static boolean addObjects(Collection<? extends PathObject> objects) {
        return current.annotations.addAll(objects);
    }
}
