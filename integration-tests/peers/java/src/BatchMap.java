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
import java.util.Arrays;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorCompletionService;
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
        try {
            return answerAll(datums);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted in mid-batch", interrupted);
        } catch (ExecutionException failed) {
            // Only what is thrown unchecked can have failed it, and the batch fails as its message does.
            throw (RuntimeException) failed.getCause();
        }
    }

    private BatchResponses answerAll(DatumIterator datums) throws InterruptedException, ExecutionException {
        var answers = new ExecutorCompletionService<BatchResponse>(threads);
        int unanswered = 0;
        for (Datum datum = datums.next(); datum != null; datum = datums.next()) {
            if (!Arrays.equals(datum.getValue(), SKIP)) {
                Datum asked = datum;
                answers.submit(() -> answer(asked));
                unanswered++;
            }
        }
        var responses = new BatchResponses();
        for (; unanswered > 0; unanswered--) {
            responses.append(answers.take().get());
        }
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
}
