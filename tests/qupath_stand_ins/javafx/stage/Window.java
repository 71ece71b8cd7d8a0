package javafx.stage;

public class Window {}
