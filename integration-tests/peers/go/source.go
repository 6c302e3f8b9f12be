package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"strconv"
	"sync"
	"time"

	"github.com/numaproj/numaflow-go/pkg/sourcer"
)

const (
	records    = 1000
	partitions = 2
)

// Every offset begins with these bytes, which are no text.
var prefix = []byte{0x00, 0xff, 0x80}

// record is what is known of one record: it can be read when it is neither out nor done, once it is due.
type record struct {
	deliveries uint32
	out, done  bool
	due        time.Time
}

type source struct {
	mu      sync.Mutex
	records [records]record
	// nacked is closed, and made anew, when a record was given back.
	nacked chan struct{}
}

// silentSource says nothing of how much is pending and of its partitions; the interface asks for both all the same.
type silentSource struct{ *source }

func newSource(silent bool) sourcer.Sourcer {
	source := &source{nacked: make(chan struct{})}
	if silent {
		return silentSource{source}
	}
	return source
}

func (s *source) Read(ctx context.Context, request sourcer.ReadRequest, messages chan<- sourcer.Message) {
	// The SDK has no way to fail but to panic.
	if request.Count() == 997 || request.Count() == 998 {
		panic("the suite asked for this")
	}
	timeout := time.After(request.TimeOut())
	for delivered := uint64(0); delivered < request.Count(); {
		number, nextDue, nacked := s.next()
		if number < 0 {
			select {
			case <-nacked:
			case <-nextDue:
			case <-timeout:
				return
			case <-ctx.Done():
				return
			}
			continue
		}
		select {
		case messages <- messageOf(number):
			delivered++
		case <-ctx.Done():
			s.giveBack(number, nil)
			return
		}
	}
}

// next takes the first record that can be read. Where there is none it tells what to wait for: the next one that is due,
// and that one is given back.
func (s *source) next() (number int, nextDue <-chan time.Time, nacked <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var due time.Time
	for number := range s.records {
		record := &s.records[number]
		switch {
		case record.ready(now):
			record.out = true
			record.deliveries++
			return number, nil, nil
		case !record.out && !record.done && (due.IsZero() || record.due.Before(due)):
			due = record.due
		}
	}
	if !due.IsZero() {
		nextDue = time.After(due.Sub(now))
	}
	return -1, nextDue, s.nacked
}

func (r *record) ready(now time.Time) bool {
	return !r.out && !r.done && !r.due.After(now)
}

func (s *source) Ack(_ context.Context, request sourcer.AckRequest) {
	for _, offset := range request.Offsets() {
		if string(offset.Value()) == string(prefix)+"panic" {
			panic("the suite asked for this")
		}
		if number, known := numberOf(offset); known {
			s.ack(number)
		}
	}
}

func (s *source) ack(number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[number].out = false
	s.records[number].done = true
}

func (s *source) Nack(_ context.Context, request sourcer.NackRequest) {
	for _, nacked := range request.Offsets() {
		if number, known := numberOf(nacked.Offset); known {
			s.giveBack(number, nacked.NackOptions)
		}
	}
}

func (s *source) giveBack(number int, options *sourcer.NackOptions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	record := &s.records[number]
	if !record.out {
		return
	}
	record.out = false
	record.due = time.Time{}
	if options != nil && options.Delay != nil {
		record.due = time.Now().Add(time.Duration(*options.Delay) * time.Millisecond)
	}
	if options != nil && options.MaxDeliveries != nil {
		record.done = record.deliveries >= *options.MaxDeliveries
	}
	close(s.nacked)
	s.nacked = make(chan struct{})
}

func (s *source) Pending(context.Context) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	pending := int64(0)
	for number := range s.records {
		if s.records[number].ready(now) {
			pending++
		}
	}
	return pending
}

func (s *source) ActivePartitions(context.Context) []int32 {
	return []int32{0, 1}
}

func (s *source) TotalPartitions(context.Context) *int32 {
	total := int32(partitions)
	return &total
}

func (silentSource) Pending(context.Context) int64 { return -1 }

func (silentSource) ActivePartitions(context.Context) []int32 { return sourcer.DefaultPartitions() }

func (silentSource) TotalPartitions(context.Context) *int32 { return nil }

func messageOf(number int) sourcer.Message {
	value := binary.BigEndian.AppendUint16(bytes.Clone(prefix), uint16(number))
	offset := sourcer.NewOffset(value, int32(number%partitions))
	return sourcer.NewMessage([]byte(strconv.Itoa(number)), offset, time.Unix(int64(number), 0))
}

func numberOf(offset sourcer.Offset) (number int, known bool) {
	value, found := bytes.CutPrefix(offset.Value(), prefix)
	if !found || len(value) != 2 {
		return 0, false
	}
	number = int(binary.BigEndian.Uint16(value))
	return number, number < records
}
