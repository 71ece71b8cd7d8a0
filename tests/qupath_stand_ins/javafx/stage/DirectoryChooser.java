package javafx.stage;

import java.io.File;

/** Chooses what the test says, and counts how often it was asked. */
public class DirectoryChooser {
    public static File chosen;
    public static int asked;
    public static File initial;

    public void setTitle(String title) {}

    public void setInitialDirectory(File folder) {
        initial = folder;
    }

    public File showDialog(Window owner) {
        asked++;
        return chosen;
    }
}
