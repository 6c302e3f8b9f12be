package main

import (
	"context"

	"github.com/numaproj/numaflow-go/pkg/mapper"
)

var unary = messages[mapper.Message]{mapper.NewMessage, mapper.MessageToDrop, mapper.MessageToNack}

func mapUnary(ctx context.Context, keys []string, datum mapper.Datum) mapper.Messages {
	outputs := mapper.MessagesBuilder()
	// Only this kind has metadata.
	if string(datum.Value()) == "metadata" {
		metadata := mapper.NewUserMetadata()
		metadata.AddKV("conformance", "bytes", []byte{0x00, 0xff, 0x80})
		return outputs.Append(mapper.NewMessage([]byte("metadata")).WithUserMetadata(metadata))
	}
	answer(ctx, unary, keys, datum, func(output mapper.Message) { outputs = outputs.Append(output) })
	return outputs
}
