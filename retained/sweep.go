package retained

// Sweep is a cursor over all retained messages that finds those which are no more. The
// zero value is at the beginning.
type Sweep struct {
	// After is the last topic that was looked at.
	After string
	// Earliest is the earliest end (Unix ms) of what was looked at and stays, 0 for
	// none.
	Earliest int64
	// Done is true at the end.
	Done bool
}

// sweepMost bounds what one page finds.
const sweepMost = 256

// Next calls fn for the topics of the next page whose messages are no more: 256 at
// most, and its work is bounded, too. Full is true if it may have found more.
func (w *Sweep) Next(s Scanner, t Term, fn func(topic string)) (full bool, err error) {
	var from []byte
	if w.After != "" {
		from = append([]byte(w.After), 0)
	}
	budget, found := sweepWork, 0
	err = s.ScanRetained(nil, from, func(topic, record []byte) ([]byte, bool) {
		w.After = string(topic)
		budget -= work(record)
		rec, err := Decode(record)
		switch {
		case err != nil:
		case t.Over(&rec):
			found++
			fn(w.After)
		default:
			w.Expect(t.Ends(&rec))
		}
		return nil, budget > 0 && found < sweepMost
	})
	full = found >= sweepMost
	w.Done = err == nil && budget > 0 && !full
	return full, err
}

// Expect notes that a message ends at that time (Unix ms), 0 for never.
func (w *Sweep) Expect(ends int64) {
	if ends != 0 && (w.Earliest == 0 || ends < w.Earliest) {
		w.Earliest = ends
	}
}
