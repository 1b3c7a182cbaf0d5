package retained

import (
	"strings"

	"github.com/geocast/geocast/mqtt"
)

// Replay is a cursor over the retained messages that one filter matches, in topic
// order, as of a stamp: what changed after it is left out, since it was
// delivered live. The zero value matches nothing.
type Replay struct {
	Filter string
	// AsOf is the stamp of the last change that counts.
	AsOf uint64
	// Resumed, if above AsOf, is it for what is sent at QoS 0, if QoS is the highest
	// for the filter: what no queue kept while the subscriber was away.
	Resumed uint64
	QoS     byte
	// After is the last topic that was looked at.
	After string
	// Again means that After itself is to be looked at once more.
	Again bool
	// Done is true at the end.
	Done bool
}

// Next calls fn for the next page: at most maxMessages, and no further one once
// maxBytes of payload were passed. The record is fn's own. It may find nothing and yet
// not be Done: its work is bounded. A malformed record is passed over.
func (r *Replay) Next(s Scanner, t Term, maxMessages, maxBytes int, fn func(*Record)) error {
	budget, ended := replayWork, true
	err := s.ScanRetained([]byte(literal(r.Filter)), r.from(), func(topic, record []byte) (seek []byte, more bool) {
		r.After = string(topic)
		budget -= work(record)
		switch {
		case !mqtt.Match(r.Filter, r.After):
			seek = skip(r.Filter, r.After)
		case r.stood(record, t):
			rec, _ := Decode(append([]byte(nil), record...))
			fn(&rec)
			maxMessages--
			maxBytes -= len(rec.Message.Payload)
		}
		ended = maxMessages > 0 && maxBytes > 0 && budget > 0
		return seek, ended
	})
	r.Done = ended || err != nil
	return err
}

// from is where the next page begins.
func (r *Replay) from() []byte {
	if r.After == "" {
		return nil
	}
	again := r.Again
	r.Again = false
	if again {
		return []byte(r.After)
	}
	return append([]byte(r.After), 0)
}

// stood reports whether a record is one of those that are replayed.
func (r *Replay) stood(record []byte, t Term) bool {
	rec, err := Decode(record)
	if err != nil || t.Over(&rec) {
		return false
	}
	return rec.Stamp <= r.AsOf || rec.Stamp <= r.Resumed && min(rec.Message.QoS, r.QoS) == 0
}

// literal is the part of a filter that every match begins with.
func literal(filter string) string {
	i := strings.IndexAny(filter, "+#")
	if i < 0 {
		return filter
	}
	if filter[i] == '#' && i > 0 {
		return filter[:i-1] // "a/#" matches "a", too
	}
	return filter[:i]
}

// skip returns a topic above t, which the filter does not match, such that it matches
// none between: what is below a level at which t differs need not be looked at. It
// returns nil for the next one.
func skip(filter, t string) []byte {
	for at := 0; ; {
		f, frest, fmore := strings.Cut(filter, "/")
		level, _, tmore := strings.Cut(t[at:], "/")
		switch wild := f == "+" || f == "#"; {
		case !wild && f != level:
			return skipTo(t[:at], f, fmore, t)
		case !tmore:
			return nil
		case !fmore:
			return past(t[:at+len(level)])
		}
		filter, at = frest, at+len(level)+1
	}
}

// skipTo is skip where t, which begins with dir, differs from the filter at the level
// after that, which the filter has as f; more tells whether it has further levels.
func skipTo(dir, f string, more bool, t string) []byte {
	switch to := dir + f; {
	case to > t:
		return []byte(to)
	case more && to+"/" > t:
		return []byte(to + "/")
	case dir == "":
		return []byte{0xff} // no topic is above: they are UTF-8
	}
	return past(dir[:len(dir)-1])
}

// past is above everything below a level: '0' is the byte after '/'.
func past(level string) []byte { return []byte(level + "0") }
