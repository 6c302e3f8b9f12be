package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/numaproj/numaflow-go/pkg/mapper"
)

const failTag = `U+005C__FAIL__`

// datum is what the inputs of the SDK's three kinds of maps have in common.
type datum interface {
	Value() []byte
	EventTime() time.Time
	Watermark() time.Time
}

// message is what their outputs have in common. Each kind has a type of its own.
type message[M any] interface {
	WithKeys([]string) M
	WithTags([]string) M
}

// messages makes the outputs of one kind. The options of a nack are one type, by three names.
type messages[M message[M]] struct {
	output func([]byte) M
	drop   func() M
	nack   func(*mapper.NackOptions) M
}

// answer emits what the value of an input asks for. When ctx ends, so does a wait, and nobody reads what is emitted.
func answer[M message[M]](ctx context.Context, kind messages[M], keys []string, datum datum, emit func(M)) {
	text := func(text string) { emit(kind.output([]byte(text))) }
	switch string(datum.Value()) {
	case "empty":
		return
	case "drop":
		emit(kind.drop())
		return
	case "nack":
		reason, deliveries, delay := "asked to", uint32(3), uint64(1500)
		emit(kind.nack(&mapper.NackOptions{Reason: &reason, MaxDeliveries: &deliveries, Delay: &delay}))
		return
	case "fail":
		text("fail")
		emit(kind.output(nil).WithTags([]string{failTag}))
		return
	case "times":
		text(fmt.Sprintf("%v %v", datum.EventTime(), datum.Watermark()))
		return
	case "metadata", "skip":
		// The kinds that have means for these look at them first.
		text("not offered")
		return
	}

	word, argument, _ := strings.Cut(string(datum.Value()), " ")
	switch word {
	case "many", "many-then-panic":
		if count, err := strconv.Atoi(argument); err == nil {
			for number := range count {
				text(strconv.Itoa(number))
			}
			if word == "many-then-panic" {
				panic("the suite asked for this")
			}
			return
		}
	case "hold":
		latchOf(argument).wait(ctx)
	case "release":
		latchOf(argument).release()
	case "first":
		text("first")
		latchOf(argument).wait(ctx)
		text("last")
		return
	case "panic":
		panic(argument)
	case "error":
		// A handler has no way to fail but to panic.
		text("not offered")
		return
	}
	emit(kind.output(datum.Value()).WithKeys(keys))
}

// latches holds every name that was asked for, until the process ends.
var latches sync.Map

type latch struct {
	once     sync.Once
	released chan struct{}
}

func latchOf(name string) *latch {
	known, _ := latches.LoadOrStore(name, &latch{released: make(chan struct{})})
	return known.(*latch)
}

func (l *latch) release() {
	l.once.Do(func() { close(l.released) })
}

func (l *latch) wait(ctx context.Context) {
	select {
	case <-l.released:
	case <-ctx.Done():
	}
}
