/**
 * QuPath script (0.4 to 0.6): the mask that `wsi-deform segment` wrote, over the open image, in the colours of its
 * classes. Nothing is stored in the image or the project.
 *
 * Run shows it over the open image, and over each image that is opened in this viewer afterwards, so that once is enough
 * for a whole project; Run > Run for project says besides which images have a mask. Background and unlabelled pixels are
 * clear. The key C and the opacity slider of QuPath work on it, and the class under the cursor is told at the bottom.
 * Restart QuPath, or run `getCurrentViewer().resetCustomPixelLayerOverlay()`, to be rid of it.
 */
import com.google.gson.JsonObject
import java.awt.Graphics2D
import java.awt.RenderingHints
import java.awt.image.BufferedImage
import java.util.concurrent.Callable
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import java.util.concurrent.FutureTask
import java.util.zip.GZIPInputStream
import javafx.application.Platform
import javafx.stage.DirectoryChooser
import org.slf4j.LoggerFactory
import qupath.lib.gui.QuPathGUI
import qupath.lib.gui.viewer.overlays.PathOverlay
import qupath.lib.images.ImageData
import qupath.lib.images.servers.ImageServers
import qupath.lib.images.servers.ServerTools
import qupath.lib.io.GsonTools
import qupath.lib.regions.ImageRegion
import qupath.lib.regions.RegionRequest
import static qupath.lib.gui.scripting.QPEx.*

// The --out folder of `wsi-deform segment`. Empty: you are asked, once for a whole project.
String folder = ''
// Set it where the slide_id of a manifest is not the name of the slide's file, for one image.
String slideId = ''

//@results@

/** Masks over the images of a viewer, tile by tile of the level that it shows. */
class WsiDeformOverlay implements PathOverlay {
    static final int TILES_KEPT = 256
    static final int VALUES = 256
    private static final LOG = LoggerFactory.getLogger('wsi-deform')

    final WsiDeformResults results
    final viewer
    /** The path of the only image that this is for, or null: all. */
    final String only
    final List<List> classes
    final int[] colours = new int[VALUES]
    private final Map<String, Object> masks = new ConcurrentHashMap<>()
    private final Map<Object, BufferedImage> tiles = Collections.synchronizedMap(new LinkedHashMap<Object, BufferedImage>(64, 0.75f, true))
    private volatile double step = 1
    private final Set<Object> asked = ConcurrentHashMap.newKeySet()
    private final ExecutorService reader = Executors.newSingleThreadExecutor({ task ->
        def thread = new Thread(task, 'wsi-deform mask')
        thread.setDaemon(true)
        return thread
    })

    WsiDeformOverlay(WsiDeformResults results, viewer, String only) {
        this.results = results
        this.viewer = viewer
        this.only = only
        classes = results.classes()
        if (classes.isEmpty())
            throw new IOException("NOT FOUND: classes.json in ${results.folder}, with the colours of the classes. " +
                'Is it the --out folder of `wsi-deform segment`?')
        def background = results.background()
        classes.eachWithIndex { each, value -> colours[value] = each[0] == background ? 0 : (int) each[1] }
    }

    String getFolder() {
        return results.folder.getPath()
    }

    /** The mask of an image: its server and where the image lies on it; or a text that says why there is none. */
    Object maskOf(server) {
        return masks.computeIfAbsent(server.getPath(), { path ->
            def found = open(server)
            if (found instanceof CharSequence)
                LOG.warn(found.toString())
            return found
        })
    }

    private Object open(server) {
        if (only != null && only != server.getPath())
            return "NOT SHOWN: ${server.getMetadata().getName()}: `slideId` at the top of the script names another image."
        def file = results.find(server, 'masks', '.ome.tif')
        if (file == null)
            return results.missing(server, 'mask', 'masks', '.ome.tif')
        try {
            def mask = ImageServers.buildServer(file.toURI())
            def outlines = results.find(server, 'geojson', '.geojson.gz')
            def about = outlines == null ? null : WsiDeformResults.head(outlines)
            // Where the image is only a part of the slide, the outlines say which.
            int width = about == null ? mask.getWidth() : about.get('width_px').getAsInt()
            int height = about == null ? mask.getHeight() : about.get('height_px').getAsInt()
            if (server.getWidth() != width || server.getHeight() != height) {
                mask.close()
                return "NOT SHOWN: ${file.getName()} is for an image of $width x $height px, this one has " +
                    "${server.getWidth()} x ${server.getHeight()}." + (about != null ? '' : ' QuPath may show a part of the slide: ' +
                    'run `wsi-deform segment` without --no-geojson, the outlines say which.')
            }
            def offset = about == null ? [0, 0] : about.getAsJsonArray('offset_px').collect { it.getAsInt() }
            return [server: mask, x: offset[0], y: offset[1], file: file]
        } catch (IOException error) {
            return "NOT SHOWN: $file cannot be read: ${error.getMessage()}"
        }
    }

    void paintOverlay(Graphics2D g2d, ImageRegion region, double downsample, ImageData<BufferedImage> imageData, boolean completely) {
        if (imageData == null || !viewer.getOverlayOptions().getShowPixelClassification())
            return
        def server = imageData.getServer()
        def mask = maskOf(server)
        if (mask instanceof CharSequence)
            return
        def seen = g2d.getClipBounds()
        int left = Math.max(0, seen == null ? region.getX() : seen.x)
        int top = Math.max(0, seen == null ? region.getY() : seen.y)
        int right = Math.min(server.getWidth(), seen == null ? region.getX() + region.getWidth() : seen.x + seen.width)
        int bottom = Math.min(server.getHeight(), seen == null ? region.getY() + region.getHeight() : seen.y + seen.height)
        if (left >= right || top >= bottom)
            return
        step = ServerTools.getPreferredDownsampleFactor(mask.server, downsample)
        def wanted = RegionRequest.createInstance(mask.server.getPath(), step, left + mask.x, top + mask.y, right - left, bottom - top)
        def g = (Graphics2D) g2d.create()
        g.clipRect(0, 0, server.getWidth(), server.getHeight())
        g.setRenderingHint(RenderingHints.KEY_INTERPOLATION, RenderingHints.VALUE_INTERPOLATION_NEAREST_NEIGHBOR)
        mask.server.getTileRequestManager().getTileRequests(wanted).each { tile ->
            def place = tile.getRegionRequest()
            def pixels = tiles.get(place)
            if (pixels == null)
                ask(mask.server, place)
            else
                g.drawImage(pixels, place.getX() - mask.x, place.getY() - mask.y, place.getWidth(), place.getHeight(), null)
        }
        g.dispose()
    }

    private void ask(server, place) {
        if (!asked.add(place))
            return
        reader.submit({
            try {
                def image = coloured(server.readRegion(place))
                synchronized (tiles) {
                    tiles.put(place, image)
                    if (tiles.size() > TILES_KEPT)
                        tiles.remove(tiles.keySet().iterator().next())
                }
                asked.remove(place)
                Platform.runLater({ viewer.repaint() } as Runnable)
            } catch (Exception error) { // stays asked for: it is told once, and not tried with every movement
                LOG.warn("NOT SHOWN: a part of ${server.getPath()}: $error".toString())
            }
        } as Runnable)
    }

    /** A tile in the colours of the classes; whatever kind of image a reader makes of it, labels are its first band. */
    BufferedImage coloured(BufferedImage labels) {
        int width = labels.getWidth(), height = labels.getHeight()
        int[] pixels = labels.getRaster().getSamples(0, 0, width, height, 0, (int[]) null)
        for (int i = 0; i < pixels.length; i++)
            pixels[i] = colours[pixels[i] & 0xff]
        def image = new BufferedImage(width, height, BufferedImage.TYPE_INT_ARGB)
        image.setRGB(0, 0, width, height, pixels, 0, width)
        return image
    }

    /** The class under the cursor, which QuPath shows beside the coordinates. */
    String getLocationString(ImageData<BufferedImage> imageData, double x, double y, int z, int t) {
        def mask = imageData == null ? null : maskOf(imageData.getServer())
        if (mask == null || mask instanceof CharSequence)
            return null
        int left = (int) x + mask.x, top = (int) y + mask.y
        def wanted = RegionRequest.createInstance(mask.server.getPath(), step, left, top, 1, 1)
        def requests = mask.server.getTileRequestManager().getTileRequests(wanted).collect { it.getRegionRequest() }
        def place = requests.find { tiles.containsKey(it) && left >= it.getX() && top >= it.getY() }
        if (place == null)
            return null
        def image = tiles.get(place)
        int column = (left - place.getX()) * image.getWidth() / place.getWidth()
        int row = (top - place.getY()) * image.getHeight() / place.getHeight()
        if (column >= image.getWidth() || row >= image.getHeight())
            return null
        def names = classes.findAll { colours[classes.indexOf(it)] != 0 && it[1] == image.getRGB(column, row) }.collect { it[0] }
        return names.isEmpty() ? null : 'Class: ' + names.join(' or ')
    }

    /** Give threads and files back. */
    void close() {
        reader.shutdown()
        masks.values().findAll { !(it instanceof CharSequence) }.each { it.server.close() }
    }
}

def imageData = getCurrentImageData()
if (imageData == null)
    throw new IOException('No image is open. Open the slide, then run this script again.')
def viewer = getCurrentViewer()
boolean forProject = !(viewer?.getImageData()?.is(imageData))
def results = WsiDeformResults.of(folder, slideId, forProject)
def server = imageData.getServer()
def overlay = new WsiDeformOverlay(results, viewer, slideId ? server.getPath() : null)
def mask = overlay.maskOf(server)
println mask instanceof CharSequence ? mask : "${server.getMetadata().getName()}: ${mask.file}"
// For a project this runs once for each image: the first time puts the overlay there, which finds all masks.
def shown = viewer?.getCustomPixelLayerOverlay()
boolean isOurs = shown?.getClass()?.getSimpleName() == 'WsiDeformOverlay'
if (viewer == null || (forProject && isOurs && shown.getFolder() == overlay.getFolder()))
    overlay.close()
else
    Platform.runLater({
        viewer.setCustomPixelLayerOverlay(overlay)
        viewer.repaint()
        if (isOurs)
            shown.close()
    } as Runnable)
