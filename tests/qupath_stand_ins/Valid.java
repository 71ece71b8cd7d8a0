import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import qupath.lib.io.PathIO;

/** Reads the GeoJSON file on each line of its input, and says how many features it has, or which is not valid. */
public class Valid {
    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            try {
                System.out.println(PathIO.readObjects(new File(line)).size() + " features");
            } catch (java.io.IOException error) {
                System.out.println(error.getMessage());
            }
            System.out.println();
            System.out.flush();
        }
    }
}
