package org.example.conformance;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Instant;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;

/** What a map does with its inputs, whatever its mode. */
final class Contract {
    private static final String ASKED_FOR = "the suite asked for this";
    private static final String NOT_OFFERED = "not offered";
    private static final String FAIL_TAG = "U+005C__FAIL__";

    /** By name, done once it is released. */
    private final Map<String, CompletableFuture<Void>> latches = new ConcurrentHashMap<>();

    /** An input, which each mode has a type of its own for. */
    record Input(byte[] value, String[] keys, Instant eventTime, Instant watermark) {}

    /** Where the outputs of an input go, as messages of the mode's own type. */
    interface Outputs {
        void send(byte[] value, String[] keys, String... tags);

        void drop();

        default void send(String value) {
            send(value.getBytes(UTF_8), new String[0]);
        }
    }

    void answer(Input input, Outputs outputs) {
        String[] words = new String(input.value, UTF_8).split(" ", 2);
        String argument = words.length == 2 ? words[1] : null;
        // Those without an argument are words to the letter, and those with one need it.
        switch (argument == null ? words[0] : words[0] + " ") {
            case "empty" -> {}
            case "drop" -> outputs.drop();
            case "fail" -> {
                outputs.send("fail");
                outputs.send(new byte[0], new String[0], FAIL_TAG);
            }
            case "times" -> outputs.send(input.eventTime + " " + input.watermark);
            // The SDK has no nack, no metadata, and no way to fail but to throw. A batch skips what is to be skipped
            // before it comes here.
            case "nack", "metadata", "error ", "skip" -> outputs.send(NOT_OFFERED);
            case "many " -> many(argument, outputs);
            case "many-then-panic " -> {
                many(argument, outputs);
                throw new RuntimeException(ASKED_FOR);
            }
            case "hold " -> {
                latch(argument).join();
                echo(input, outputs);
            }
            case "release " -> {
                latch(argument).complete(null);
                echo(input, outputs);
            }
            case "first " -> {
                outputs.send("first");
                latch(argument).join();
                outputs.send("last");
            }
            case "panic " -> throw new RuntimeException(argument);
            default -> echo(input, outputs);
        }
    }

    private static void echo(Input input, Outputs outputs) {
        outputs.send(input.value, input.keys);
    }

    private static void many(String count, Outputs outputs) {
        for (int number = 0; number < Integer.parseInt(count); number++) {
            outputs.send(Integer.toString(number));
        }
    }

    /**
     * A future rather than a lock: joined on a thread of a fork-join pool, which is what the SDK calls unary handlers on,
     * it lets the pool start another thread in place of the one that waits.
     */
    private CompletableFuture<Void> latch(String name) {
        return latches.computeIfAbsent(name, unreleased -> new CompletableFuture<>());
    }
}
