/**
 * QuPath script (0.4 to 0.6): the outlines that `wsi-deform segment` wrote for the open image, as annotations with the
 * names and colours of their classes.
 *
 * Run does the open image, Run > Run for project all chosen images of a project. An image whose outlines are not found
 * is left as it is, and the script says what it looked for. Running it again replaces what it imported before where
 * the outline is at the same place; nothing else is touched.
 */
import com.google.gson.JsonObject
import java.util.concurrent.Callable
import java.util.concurrent.FutureTask
import java.util.zip.GZIPInputStream
import javafx.application.Platform
import javafx.stage.DirectoryChooser
import qupath.lib.gui.QuPathGUI
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO
import static qupath.lib.gui.scripting.QPEx.*

// The --out folder of `wsi-deform segment`. Empty: you are asked, once for a whole project.
String folder = ''
// Set it where the slide_id of a manifest is not the name of the slide's file, for one image.
String slideId = ''
// QuPath keeps one colour for each class name. false keeps the colours of classes that it has already.
boolean setColours = true

//@results@

def imageData = getCurrentImageData()
if (imageData == null)
    throw new IOException('No image is open. Open the slide, then run this script again.')
boolean forProject = !(getCurrentViewer()?.getImageData()?.is(imageData))
def results = WsiDeformResults.of(folder, slideId, forProject)
def server = imageData.getServer()
def file = results.find(server, 'geojson', '.geojson.gz')
if (file == null) {
    println results.missing(server, 'outlines', 'geojson', '.geojson.gz')
    def mask = results.find(server, 'masks', '.ome.tif')
    if (mask != null)
        println "Its mask is there ($mask): the same `wsi-deform segment` command without --no-geojson makes the outlines from it."
    return
}

// Outlines of another slide, or of an image that QuPath shows otherwise, would lie in the wrong place.
def about = WsiDeformResults.head(file)
int width = about.get('width_px').getAsInt()
int height = about.get('height_px').getAsInt()
if (server.getWidth() != width || server.getHeight() != height)
    throw new IOException("${file.getName()} is for an image of $width x $height px, this one has " +
        "${server.getWidth()} x ${server.getHeight()}: nothing was imported.")

def objects = PathIO.readObjects(file)
if (setColours) {
    def colours = results.classes().collectEntries { [(it[0]): it[1]] }
    objects.collect { it.getPathClass() }.findAll().unique().each { found ->
        if (colours.containsKey(found.toString()))
            found.setColor(colours[found.toString()] as Integer)
    }
}
def ids = objects.collect { it.getID() } as Set
removeObjects(getAnnotationObjects().findAll { it.getID() in ids }, true)
addObjects(objects)
println "${server.getMetadata().getName()}: ${objects.size()} annotations from $file"
