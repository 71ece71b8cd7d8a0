import groovy.lang.GroovyShell;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/**
 * Runs a Groovy script, whatever version of Groovy there is, once for each line that comes in: its arguments, with tabs
 * between them. An empty line says that a run has ended. One process for all runs: to start Java takes seconds.
 */
public class Main {
    public static void main(String[] arguments) throws Exception {
        var script = new GroovyShell(Main.class.getClassLoader()).parse(new File(arguments[0]));
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            script.getBinding().setVariable("args", line.split("\t"));
            script.run();
            System.out.println();
            System.out.flush();
        }
        System.exit(0); // Threads of a script may go on.
    }
}
