package main

import (
	"context"

	"github.com/numaproj/numaflow-go/pkg/mapstreamer"
)

var stream = messages[mapstreamer.Message]{
	mapstreamer.NewMessage, mapstreamer.MessageToDrop, mapstreamer.MessageToNack,
}

func mapStream(ctx context.Context, keys []string, datum mapstreamer.Datum, outputs chan<- mapstreamer.Message) {
	answer(ctx, stream, keys, datum, func(output mapstreamer.Message) {
		select {
		case outputs <- output:
		case <-ctx.Done():
		}
	})
	// A handler says by this that it is done. The SDK's examples defer it; then a handler that panics has said it as well,
	// and its message is answered with an EOT more often than not.
	close(outputs)
}
