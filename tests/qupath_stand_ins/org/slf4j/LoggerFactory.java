package org.slf4j;

public class LoggerFactory {
    public static Logger getLogger(String name) {
        return message -> System.out.println("LOG " + message);
    }
}
