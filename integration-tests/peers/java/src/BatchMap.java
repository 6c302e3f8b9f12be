package org.example.conformance;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.numaproj.numaflow.batchmapper.BatchMapper;
import io.numaproj.numaflow.batchmapper.BatchResponse;
import io.numaproj.numaflow.batchmapper.BatchResponses;
import io.numaproj.numaflow.batchmapper.Datum;
import io.numaproj.numaflow.batchmapper.DatumIterator;
import io.numaproj.numaflow.batchmapper.GRPCConfig;
import io.numaproj.numaflow.batchmapper.Message;
import io.numaproj.numaflow.batchmapper.Server;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

final class BatchMap extends BatchMapper {
    private static final byte[] SKIP = "skip".getBytes(UTF_8);

    private final Contract contract = new Contract();
    /** A thread for each message, as any of them may wait for another one; none of them keeps the process. */
    private final ExecutorService threads = Executors.newCachedThreadPool(task -> {
        var thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    });

    static void serve() throws Exception {
        var config = GRPCConfig.newBuilder();
        Main.socket().ifPresent(config::socketPath);
        Main.serverInfo().ifPresent(config::infoFilePath);
        var server = new Server(new BatchMap(), config.build());
        server.start();
        server.awaitTermination();
    }

    @Override
    public BatchResponses processMessage(DatumIterator datums) {
        List<CompletableFuture<BatchResponse>> answers = new ArrayList<>();
        for (Datum datum = next(datums); datum != null; datum = next(datums)) {
            if (!Arrays.equals(datum.getValue(), SKIP)) {
                Datum asked = datum;
                answers.add(CompletableFuture.supplyAsync(() -> answer(asked), threads));
            }
        }
        var responses = new BatchResponses();
        answers.forEach(answer -> responses.append(answer.join()));
        return responses;
    }

    private BatchResponse answer(Datum datum) {
        var response = new BatchResponse(datum.getId());
        contract.answer(
                new Contract.Input(datum.getValue(), datum.getKeys(), datum.getEventTime(), datum.getWatermark()),
                new Contract.Outputs() {
                    @Override
                    public void send(byte[] value, String[] keys, String... tags) {
                        response.append(new Message(value, keys, tags));
                    }

                    @Override
                    public void drop() {
                        response.append(Message.toDrop());
                    }
                });
        return response;
    }

    /** The next message of the batch; null at its end. */
    private static Datum next(DatumIterator datums) {
        try {
            return datums.next();
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted in mid-batch", interrupted);
        }
    }
}
