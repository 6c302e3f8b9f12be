package main

import (
	"context"

	"github.com/numaproj/numaflow-go/pkg/batchmapper"
)

var batch = messages[batchmapper.Message]{
	batchmapper.NewMessage, batchmapper.MessageToDrop, batchmapper.MessageToNack,
}

// answered is the answer to one message of a batch, or the panic that came instead.
type answered struct {
	id       string
	outputs  []batchmapper.Message
	panicked any
}

// mapBatch answers the messages of a batch concurrently, while more of them arrive.
func mapBatch(ctx context.Context, datums <-chan batchmapper.Datum) batchmapper.BatchResponses {
	responses := batchmapper.BatchResponsesBuilder()
	answers := make(chan answered)
	for running := 0; datums != nil || running > 0; {
		select {
		case datum, more := <-datums:
			if !more {
				datums = nil
				continue
			}
			if string(datum.Value()) == "skip" {
				continue
			}
			running++
			go func() {
				select {
				case answers <- answerOne(ctx, datum):
				case <-ctx.Done():
				}
			}()
		case answer := <-answers:
			running--
			if answer.panicked != nil {
				// The SDK catches a panic in the goroutine that it called; elsewhere it would end the process.
				panic(answer.panicked)
			}
			response := batchmapper.NewBatchResponse(answer.id)
			for _, output := range answer.outputs {
				response = response.Append(output)
			}
			responses = responses.Append(response)
		case <-ctx.Done():
			return responses
		}
	}
	return responses
}

func answerOne(ctx context.Context, datum batchmapper.Datum) (result answered) {
	result.id = datum.Id()
	defer func() { result.panicked = recover() }()
	answer(ctx, batch, datum.Keys(), datum, func(output batchmapper.Message) {
		result.outputs = append(result.outputs, output)
	})
	return result
}
