package qupath.lib.images.servers;

public class ServerTools {
    /** Of the coarsest level that is not coarser than wanted. */
    public static double getPreferredDownsampleFactor(ImageServer<?> server, double wanted) {
        double best = 1;
        for (int level = 0; level < server.nResolutions(); level++)
            if (server.getDownsampleForResolution(level) <= wanted + 1e-6)
                best = server.getDownsampleForResolution(level);
        return best;
    }
}
