package org.example.conformance;

import java.util.Optional;

/** The handler contract, CONTRACT.md, with numaflow-java. */
final class Main {
    /** The exit status for a kind of server that is not here. */
    private static final int NO_SUCH_KIND = 3;

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        String kind = System.getenv().getOrDefault("CONFORMANCE_KIND", "");
        switch (kind) {
            case "map-unary" -> UnaryMap.serve();
            case "map-batch" -> BatchMap.serve();
            case "map-stream" -> StreamMap.serve();
            case "source" -> Source.serve();
            default -> {
                System.err.printf(
                        "there is no server of the kind \"%s\" here;"
                                + " set CONFORMANCE_KIND to map-unary, map-batch, map-stream or source%n",
                        kind);
                System.exit(NO_SUCH_KIND);
            }
        }
    }

    /** The socket to listen on, unless it is the SDK's own. */
    static Optional<String> socket() {
        return Optional.ofNullable(System.getenv("CONFORMANCE_SOCKET"));
    }

    /** The server-info file to write, unless it is the SDK's own. */
    static Optional<String> serverInfo() {
        return Optional.ofNullable(System.getenv("CONFORMANCE_SERVER_INFO"));
    }

    /** Whether the source leaves it to its SDK to say what is pending and which partitions there are. */
    static boolean defaults() {
        return "1".equals(System.getenv("CONFORMANCE_DEFAULTS"));
    }
}
