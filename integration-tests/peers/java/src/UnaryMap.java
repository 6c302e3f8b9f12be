package org.example.conformance;

import io.numaproj.numaflow.mapper.Datum;
import io.numaproj.numaflow.mapper.GRPCConfig;
import io.numaproj.numaflow.mapper.Mapper;
import io.numaproj.numaflow.mapper.Message;
import io.numaproj.numaflow.mapper.MessageList;
import io.numaproj.numaflow.mapper.Server;
import java.util.ArrayList;
import java.util.List;

final class UnaryMap extends Mapper {
    private final Contract contract = new Contract();

    static void serve() throws Exception {
        var config = GRPCConfig.newBuilder();
        Main.socket().ifPresent(config::socketPath);
        Main.serverInfo().ifPresent(config::infoFilePath);
        var server = new Server(new UnaryMap(), config.build());
        server.start();
        server.awaitTermination();
    }

    @Override
    public MessageList processMessage(String[] keys, Datum datum) {
        List<Message> messages = new ArrayList<>();
        contract.answer(
                new Contract.Input(datum.getValue(), keys, datum.getEventTime(), datum.getWatermark()),
                new Contract.Outputs() {
                    @Override
                    public void send(byte[] value, String[] keys, String... tags) {
                        messages.add(new Message(value, keys, tags));
                    }

                    @Override
                    public void drop() {
                        messages.add(Message.toDrop());
                    }
                });
        return MessageList.newBuilder().addMessages(messages).build();
    }
}
