package org.example.conformance;

import io.numaproj.numaflow.mapstreamer.Datum;
import io.numaproj.numaflow.mapstreamer.GRPCConfig;
import io.numaproj.numaflow.mapstreamer.MapStreamer;
import io.numaproj.numaflow.mapstreamer.Message;
import io.numaproj.numaflow.mapstreamer.OutputObserver;
import io.numaproj.numaflow.mapstreamer.Server;

final class StreamMap extends MapStreamer {
    private final Contract contract = new Contract();

    static void serve() throws Exception {
        var config = GRPCConfig.newBuilder();
        Main.socket().ifPresent(config::socketPath);
        Main.serverInfo().ifPresent(config::infoFilePath);
        var server = new Server(new StreamMap(), config.build());
        server.start();
        server.awaitTermination();
    }

    @Override
    public void processMessage(String[] keys, Datum datum, OutputObserver observer) {
        contract.answer(
                new Contract.Input(datum.getValue(), keys, datum.getEventTime(), datum.getWatermark()),
                new Contract.Outputs() {
                    @Override
                    public void send(byte[] value, String[] keys, String... tags) {
                        observer.send(new Message(value, keys, tags));
                    }

                    @Override
                    public void drop() {
                        observer.send(Message.toDrop());
                    }
                });
    }
}
