// Package retained is what stays on a topic, matched by filter: the stored form
// of a retained message, a cursor that replays those of one filter in pages, one that
// finds those which are no more, and a count of what is there. It does no I/O and has
// no clock: table and time are given by the caller.
package retained

// Scanner walks records in the byte order of their topics.
type Scanner interface {
	// ScanRetained calls fn from the first topic ≥ from that has prefix; fn
	// returns the topic to seek to (nil: the next one), and whether to go on.
	ScanRetained(prefix, from []byte, fn func(topic, record []byte) (seek []byte, more bool)) error
}

// replayWork and sweepWork bound what one page looks at: a record is 1, and 1 more for
// each KB of it. A replay's is some milliseconds, since others wait for their turn.
const (
	replayWork = 1024
	sweepWork  = 4096
)

// work is what it takes to look at a record.
func work(record []byte) int { return 1 + len(record)>>10 }
