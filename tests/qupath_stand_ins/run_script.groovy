/*
 * Runs a script of QuPath for one or more images, with the classes beside this file in place of QuPath's.
 * Arguments: the script, a JSON file that says what is there and what to do, and where to write what came of it.
 */
import com.google.gson.Gson
import java.awt.Color
import java.awt.image.BufferedImage
import javafx.stage.DirectoryChooser
import javax.imageio.ImageIO
import qupath.lib.gui.QuPathGUI
import qupath.lib.gui.scripting.QPEx
import qupath.lib.gui.viewer.QuPathViewer
import qupath.lib.images.ImageData
import qupath.lib.images.servers.SlideServer
import qupath.lib.images.servers.TiffServer
import qupath.lib.objects.classes.PathClass
import qupath.lib.regions.ImageRegion

QPEx.viewer = null
QuPathGUI.instance = null
PathClass.forget()
TiffServer.opened = TiffServer.closed = DirectoryChooser.asked = 0
TiffServer.reads.clear()
['wsi-deform.folder', 'wsi-deform.refused'].each { System.clearProperty(it) }

def script = new File(args[0])
def asked = new Gson().fromJson(new File(args[1]).getText('UTF-8'), Map)
def images = asked.images.collect {
    new ImageData<BufferedImage>(new SlideServer(new File(it.path).toURI(), (int) it.width, (int) it.height))
}
if (asked.window) {
    QuPathGUI.instance = new QuPathGUI()
    QPEx.viewer = new QuPathViewer()
    if (asked.open != null)
        QPEx.viewer.imageData = images[(int) asked.open]
}
DirectoryChooser.chosen = asked.chosen == null ? null : new File(asked.chosen)
asked.classes.each { name, colour -> PathClass.fromString(name, (int) colour) }

def runs = asked.run.collect { number ->
    QPEx.current = images[(int) number]
    def loader = new GroovyClassLoader(getClass().getClassLoader())
    try {
        new GroovyShell(loader).evaluate(script)
        return null
    } catch (IOException error) {
        return error.getMessage()
    }
}

def painted = asked.paint.collect { each ->
    def viewer = QPEx.viewer
    def imageData = images[(int) each.image]
    def server = imageData.getServer()
    viewer.imageData = imageData
    viewer.getOverlayOptions().showPixelClassification = each.shown
    double step = each.downsample
    def draw = {
        def canvas = new BufferedImage((int) each.width, (int) each.height, BufferedImage.TYPE_INT_RGB)
        def g = canvas.createGraphics()
        g.setColor(Color.WHITE)
        g.fillRect(0, 0, canvas.getWidth(), canvas.getHeight())
        g.setClip(0, 0, canvas.getWidth(), canvas.getHeight())
        g.scale(1 / step, 1 / step)
        g.translate(-each.x, -each.y)
        def all = ImageRegion.createInstance(0, 0, server.getWidth(), server.getHeight(), 0, 0)
        viewer.getCustomPixelLayerOverlay().paintOverlay(g, all, step, imageData, false)
        g.dispose()
        return canvas
    }
    // Tiles come from another thread: what is drawn at last is what a person sees when all are there.
    def seen = draw()
    long started = System.currentTimeMillis()
    while (!viewer.getCustomPixelLayerOverlay().asked.isEmpty() && System.currentTimeMillis() - started < 60000)
        Thread.sleep(10)
    seen = draw()
    ImageIO.write(seen, 'png', new File(each.out))
    return each.at.collect { viewer.getCustomPixelLayerOverlay().getLocationString(imageData, it[0], it[1], 0, 0) }
}

def results = [
    errors: runs,
    annotations: images.collect { image ->
        image.annotations.collect {
            [id: it.getID().toString(), name: it.getPathClass().toString(), colour: it.getPathClass().getColor(),
             kind: it.geometry.getGeometryType(), area: it.geometry.getArea()]
        }
    },
    asked: DirectoryChooser.asked,
    overlay: QPEx.viewer?.getCustomPixelLayerOverlay()?.getClass()?.getSimpleName(),
    locations: painted,
    opened: TiffServer.opened,
    closed: TiffServer.closed,
    reads: TiffServer.reads,
]
new File(args[2]).setText(new Gson().newBuilder().serializeNulls().create().toJson(results), 'UTF-8')
