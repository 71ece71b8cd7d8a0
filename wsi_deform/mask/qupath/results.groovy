/** What `wsi-deform segment` wrote, found by the file name of an image. */
class WsiDeformResults {
    static final String REMEMBERED = 'wsi-deform.folder'
    static final String REFUSED = 'wsi-deform.refused'
    /** How long a choice that was refused holds for the other images of a project, ms. */
    static final long REFUSED_MS = 5000

    // As `wsi-deform segment` names slides: by their file, with its suffix only where two would share a name.
    static final SUFFIX = ~/(?i)(?<=.)((\.ome)?\.zarr\.zip|\.ome\.(tiff?|btf|tf8|zarr|ozx)|\.(svs|tiff?|btf|tf8|ndpi|vms|vmu|scn|mrxs|bif|svslide|qptiff|ptiff?|dcm|png|jpe?g|bmp|czi|vsi|i2?syntax|mdsx?|kfb|sdpc|zarr|ozx))$/
    // What stands in file names but in no slide_id: what Windows forbids, and a leading dot.
    static final FORBIDDEN = ~/[\\\/:*?"<>|]|^\./

    final File folder
    final String slideId

    WsiDeformResults(File folder, String slideId) {
        this.folder = folder
        this.slideId = slideId
    }

    /** The folder that is set, or that a person chooses; in Run for project one choice holds for all images. */
    static WsiDeformResults of(String set, String slideId, boolean forProject) {
        File chosen = set ? new File(set) : asked(forProject)
        if (!chosen.isDirectory())
            throw new IOException("$chosen is no folder. Set `folder` at the top of this script to the --out folder of `wsi-deform segment`.")
        return new WsiDeformResults(chosen, slideId)
    }

    private static File asked(boolean forProject) {
        String last = System.getProperty(REMEMBERED)
        if (forProject && last != null)
            return new File(last)
        long refused = Long.parseLong(System.getProperty(REFUSED, '0'))
        if (forProject && System.currentTimeMillis() - refused < REFUSED_MS) {
            System.setProperty(REFUSED, String.valueOf(System.currentTimeMillis()))
            throw new IOException('No folder was chosen: nothing was done.')
        }
        def gui = QuPathGUI.getInstance()
        if (gui == null)
            throw new IOException('`folder` is empty, and there is no window to ask in. Set it at the top of this script.')
        def ask = new FutureTask<File>({
            def chooser = new DirectoryChooser()
            chooser.setTitle('The --out folder of wsi-deform segment')
            if (last != null && new File(last).isDirectory())
                chooser.setInitialDirectory(new File(last))
            return chooser.showDialog(gui.getStage())
        } as Callable<File>)
        if (Platform.isFxApplicationThread())
            ask.run()
        else
            Platform.runLater(ask)
        File chosen = ask.get()
        if (chosen == null) {
            System.setProperty(REFUSED, String.valueOf(System.currentTimeMillis()))
            throw new IOException('No folder was chosen: nothing was done.')
        }
        System.setProperty(REMEMBERED, chosen.getPath())
        return chosen
    }

    /** What the files of an image may be called, without their suffix. */
    List<String> names(server) {
        if (slideId)
            return [slideId]
        return server.getURIs().collectMany { uri ->
            def name = uri.getPath().replaceAll('/+$', '').tokenize('/').last()
            [name, name.replaceFirst(SUFFIX, '')].collect { it.replaceAll(FORBIDDEN, '_') }
        }.unique()
    }

    /** The places where files of a kind may lie, if `folder` is the --out folder or the one of that kind in it. */
    private List<File> places(String kind) {
        return [new File(folder, kind), folder]
    }

    /** The file of an image, or null. */
    File find(server, String kind, String suffix) {
        def files = names(server).collectMany { name -> places(kind).collect { new File(it, name + suffix) } }
        return files.find { it.isFile() }
    }

    /** What people read when there is no file. */
    String missing(server, String what, String kind, String suffix) {
        def text = "NOT FOUND: ${server.getMetadata().getName()}: no $what in ${places(kind)[0]}: looked for " +
            names(server).collect { it + suffix }.join(' and ') + '.'
        if (!places(kind)[0].isDirectory())
            text += " There is no folder '$kind' in $folder: is it the --out folder of `wsi-deform segment`?"
        return text
    }

    /** The first line of outlines: of which image they are and where it lies on the slide. */
    static JsonObject head(File outlines) {
        def line = new GZIPInputStream(new FileInputStream(outlines)).withReader('US-ASCII') { it.readLine() }
        return GsonTools.getInstance().fromJson(line + ']}', JsonObject).getAsJsonObject('wsi_deform')
    }

    /** The class table of the folder, or null. */
    private JsonObject table() {
        def places = [folder, folder.getAbsoluteFile().getParentFile()].findAll()
        def file = places.collect { new File(it, 'classes.json') }.find { it.isFile() }
        return file == null ? null : GsonTools.getInstance().fromJson(file.getText('UTF-8'), JsonObject)
    }

    /** The classes in the order of their mask values: [name, ARGB]; empty where there is no classes.json. */
    List<List> classes() {
        def found = table()
        return found == null ? [] : found.getAsJsonArray('classes').collect { each ->
            def rgb = each.getAsJsonObject().getAsJsonArray('color').collect { it.getAsInt() }
            [each.getAsJsonObject().get('name').getAsString(), (0xff << 24) | (rgb[0] << 16) | (rgb[1] << 8) | rgb[2]]
        }
    }

    /** The name of the background, or null. */
    String background() {
        def name = table()?.get('background')
        return name == null || name.isJsonNull() ? null : name.getAsString()
    }
}
