/**
 * QuPath script: import the outlines that `wsi-deform segment` wrote for the current image as annotations.
 *
 * Set `folder`, then choose Run, or Run > Run for project for all images of a project. An image whose outlines are
 * not in the folder is left as it is. Running it again replaces what it imported before where the outline is at the
 * same place; nothing else is touched.
 */
import com.google.gson.JsonObject
import java.util.zip.GZIPInputStream
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO

// The folder `geojson` in the --out folder of `wsi-deform segment`.
def folder = new File('/path/to/out/geojson')
// Set it where the slide_id of a manifest is not the name of the slide's file, for one image.
String slideId = null

if (!folder.isDirectory())
    throw new IOException("$folder is no folder. Set `folder` at the top of this script.")
def server = getCurrentImageData().getServer()

// As `wsi-deform segment` names slides: by their file, with its suffix only where two would share a name.
def suffix = ~/(?i)(?<=.)((\.ome)?\.zarr\.zip|\.ome\.(tiff?|btf|tf8|zarr|ozx)|\.(svs|tiff?|btf|tf8|ndpi|vms|vmu|scn|mrxs|bif|svslide|qptiff|ptiff?|dcm|png|jpe?g|bmp|czi|vsi|i2?syntax|mdsx?|kfb|sdpc|zarr|ozx))$/
// What stands in file names but in no slide_id: what Windows forbids, and a leading dot.
def forbidden = ~/[\\\/:*?"<>|]|^\./
def names = slideId != null ? [slideId] : server.getURIs().collectMany { uri ->
    def name = uri.getPath().replaceAll('/+$', '').tokenize('/').last()
    [name, name.replaceFirst(suffix, '')].collect { it.replaceAll(forbidden, '_') }
}
def file = names.collect { new File(folder, it + '.geojson.gz') }.find { it.isFile() }
if (file == null) {
    println "${server.getMetadata().getName()}: no outlines of ${names.unique().join(' or ')} in $folder"
    return
}

// Outlines of another slide, or of an image that QuPath shows otherwise, would lie in the wrong place.
def head = new GZIPInputStream(new FileInputStream(file)).withReader('US-ASCII') { it.readLine() }
def about = GsonTools.getInstance().fromJson(head + ']}', JsonObject).getAsJsonObject('wsi_deform')
int width = about.get('width_px').getAsInt()
int height = about.get('height_px').getAsInt()
if (server.getWidth() != width || server.getHeight() != height)
    throw new IOException("${file.getName()} is for an image of $width x $height px, this one has " +
        "${server.getWidth()} x ${server.getHeight()}: nothing was imported.")

def objects = PathIO.readObjects(file)
def ids = objects.collect { it.getID() } as Set
removeObjects(getAnnotationObjects().findAll { it.getID() in ids }, true)
addObjects(objects)
println "${file.getName()}: ${objects.size()} annotations"
