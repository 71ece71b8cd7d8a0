package javafx.application;

/** Runs tasks at once, in the thread that asks. */
public class Platform {
    public static void runLater(Runnable task) {
        task.run();
    }

    public static boolean isFxApplicationThread() {
        return false;
    }
}
