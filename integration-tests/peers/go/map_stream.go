package main

import (
	"context"

	"github.com/numaproj/numaflow-go/pkg/mapstreamer"
)

var stream = messages[mapstreamer.Message]{
	mapstreamer.NewMessage, mapstreamer.MessageToDrop, mapstreamer.MessageToNack,
}

func mapStream(ctx context.Context, keys []string, datum mapstreamer.Datum, outputs chan<- mapstreamer.Message) {
	// A handler says by this that it is done, and the SDK's own examples defer it; so a panic says it too.
	defer close(outputs)
	answer(ctx, stream, keys, datum, func(output mapstreamer.Message) {
		select {
		case outputs <- output:
		case <-ctx.Done():
		}
	})
}
