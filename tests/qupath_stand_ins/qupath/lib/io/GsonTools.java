package qupath.lib.io;

import com.google.gson.Gson;

public class GsonTools {
    public static Gson getInstance() {
        return new Gson();
    }
}
