// Package bench puts load on an MQTT broker and measures what it costs: messages
// a second, latency, and, of a broker on the same machine, CPU and memory by its
// process id. It is what `geocast bench` runs; it works against any broker.
//
// The load is lean, so that the broker is what is measured: packets are made once,
// a goroutine a connection reads and answers in chunks.
package bench

import (
	"fmt"
	"slices"
	"time"
)

// Target is the broker under load.
type Target struct {
	// Address is host:port of plain MQTT over TCP.
	Address string
	// PID is the broker's process, for CPU and memory; 0 if it is not known.
	PID int
	// Busy, if not nil, is how long the broker's core has been applying commands.
	Busy func() time.Duration
}

// Result is what a run came to. A field that was not measured is 0.
type Result struct {
	Name string `json:"name"`
	// Messages were delivered (or, to offline sessions, acknowledged) in Took.
	Messages int           `json:"messages"`
	Took     time.Duration `json:"took_ns"`
	// CPU is the broker's, of all its threads.
	CPU time.Duration `json:"cpu_ns"`
	// P50 and P99 are from send to receipt, or to the acknowledgement where
	// nobody receives.
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
	// AckP50 is from send to PUBACK or PUBCOMP.
	AckP50 time.Duration `json:"ack_p50_ns"`
	// Busy is how much of Took the broker's core was applying commands.
	Busy time.Duration `json:"busy_ns"`
	// Bytes is what the broker's memory (RssAnon) grew by, for one of Messages.
	Bytes int64 `json:"bytes_each"`
	// RSS is the broker's resident memory at the end, in bytes.
	RSS int64 `json:"rss"`
}

// PerMessage is the broker's CPU time for one message.
func (r *Result) PerMessage() time.Duration {
	if r.Messages == 0 {
		return 0
	}
	return r.CPU / time.Duration(r.Messages)
}

// Rate is messages a second.
func (r *Result) Rate() float64 {
	if r.Took <= 0 {
		return 0
	}
	return float64(r.Messages) / r.Took.Seconds()
}

// String is one line for people.
func (r Result) String() string {
	return fmt.Sprintf("%-44s %9d messages %9.0f/s  CPU %7.2f µs each  p50 %v p99 %v ack p50 %v", r.Name, r.Messages, r.Rate(),
		float64(r.PerMessage().Nanoseconds())/1000, r.P50.Round(10*time.Microsecond), r.P99.Round(10*time.Microsecond), r.AckP50.Round(10*time.Microsecond))
}

// quantile sorts times and returns the one below which a share q lies.
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(int(q*float64(len(times))), len(times)-1)]
}
