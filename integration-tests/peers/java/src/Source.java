package org.example.conformance;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.numaproj.numaflow.sourcer.AckRequest;
import io.numaproj.numaflow.sourcer.GRPCConfig;
import io.numaproj.numaflow.sourcer.Message;
import io.numaproj.numaflow.sourcer.Offset;
import io.numaproj.numaflow.sourcer.OutputObserver;
import io.numaproj.numaflow.sourcer.ReadRequest;
import io.numaproj.numaflow.sourcer.Server;
import io.numaproj.numaflow.sourcer.Sourcer;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * A source of numbered records. The SDK has no nack, so no record is ever delivered again, and an ack has nothing to take
 * note of.
 */
final class Source extends Sourcer {
    private static final String ASKED_FOR = "the suite asked for this";
    private static final int RECORDS = 1000;
    private static final int PARTITIONS = 2;
    /** Of so many records a read fails. To throw is the only way, so this is the same as a panic. */
    private static final Set<Long> FAILING_READS = Set.of(997L, 998L);
    /** What every offset begins with: bytes that are no text. */
    private static final byte[] BINARY = {0x00, (byte) 0xff, (byte) 0x80};
    private static final byte[] PANICKING_ACK = offset("panic".getBytes(UTF_8));

    private final AtomicInteger read = new AtomicInteger();

    static void serve() throws Exception {
        var config = GRPCConfig.newBuilder();
        Main.socket().ifPresent(config::socketPath);
        Main.serverInfo().ifPresent(config::infoFilePath);
        var server = new Server(new Source(), config.build());
        server.start();
        server.awaitTermination();
    }

    @Override
    public void read(ReadRequest request, OutputObserver observer) {
        if (FAILING_READS.contains(request.getCount())) {
            throw new RuntimeException(ASKED_FOR);
        }
        long deadline = System.nanoTime() + request.getTimeout().toNanos();
        for (long delivered = 0; delivered < request.getCount(); delivered++) {
            int number = read.getAndUpdate(next -> Math.min(next + 1, RECORDS));
            if (number == RECORDS) {
                // Nothing more will ever come, and the platform asks again as soon as this returns.
                waitUntil(deadline);
                return;
            }
            observer.send(message(number));
        }
    }

    @Override
    public void ack(AckRequest request) {
        for (Offset offset : request.getOffsets()) {
            if (Arrays.equals(offset.getValue(), PANICKING_ACK)) {
                throw new RuntimeException(ASKED_FOR);
            }
        }
    }

    @Override
    public long getPending() {
        // The SDK wants a number; this one is for what is not known.
        return Main.defaults() ? -1 : RECORDS - read.get();
    }

    @Override
    public List<Integer> getPartitions() {
        return Main.defaults() ? defaultPartitions() : List.of(0, 1);
    }

    private static Message message(int number) {
        var offset = new Offset(offset(ByteBuffer.allocate(Integer.BYTES).putInt(number).array()), number % PARTITIONS);
        return new Message(Integer.toString(number).getBytes(UTF_8), offset, Instant.ofEpochSecond(number));
    }

    private static byte[] offset(byte[] rest) {
        return ByteBuffer.allocate(BINARY.length + rest.length).put(BINARY).put(rest).array();
    }

    private static void waitUntil(long deadline) {
        try {
            TimeUnit.NANOSECONDS.sleep(deadline - System.nanoTime());
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
