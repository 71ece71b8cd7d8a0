package qupath.lib.gui;

import javafx.stage.Stage;

public class QuPathGUI {
    public static QuPathGUI instance;

    public static QuPathGUI getInstance() {
        return instance;
    }

    public Stage getStage() {
        return new Stage();
    }
}
