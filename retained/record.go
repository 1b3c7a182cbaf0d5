package retained

import (
	"encoding/binary"
	"errors"

	"github.com/geocast/geocast/mqtt"
)

// The stored form: 'R', version, the stamp, the message; since version 2 also At and
// Source.
const (
	recordKind    = 'R'
	recordVersion = 2
)

// ErrRecord is returned for a record that is malformed.
var ErrRecord = errors.New("retained: malformed record")

// Record is a retained message as it is stored.
type Record struct {
	// Stamp is its place among all changes of retained messages and all replays, as
	// the caller counts: it never falls, and rises between a replay's AsOf and a change
	// after it.
	Stamp uint64
	// At is when it was set, Unix ms of the core's time; 0 if that is not known.
	At int64
	// Source names the client that published it, as the caller numbers them, for No
	// Local; 0 is nobody.
	Source  uint64
	Message *mqtt.Message
}

// Append appends the stored form.
func (r *Record) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, recordKind, recordVersion), r.Stamp)
	dst = r.Message.Append(dst)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.At))
	return binary.BigEndian.AppendUint64(dst, r.Source)
}

// Decode is the inverse of Append. The message aliases b. It returns ErrRecord, or
// mqtt.ErrNewer for one of a later version.
func Decode(b []byte) (r Record, err error) {
	if len(b) < 10 || b[0] != recordKind {
		return r, ErrRecord
	}
	if b[1] > recordVersion {
		return r, mqtt.ErrNewer
	}
	r.Stamp = binary.BigEndian.Uint64(b[2:])
	m, rest, err := mqtt.DecodeMessage(b[10:])
	switch {
	case errors.Is(err, mqtt.ErrNewer):
		return r, err
	case err != nil:
		return r, ErrRecord
	case b[1] == 1 && len(rest) == 0:
	case b[1] == 1 || len(rest) != 16:
		return r, ErrRecord
	default:
		r.At, r.Source = int64(binary.BigEndian.Uint64(rest)), binary.BigEndian.Uint64(rest[8:])
	}
	r.Message = m
	return r, nil
}

// Term says which messages are no more.
type Term struct {
	// Now is the core's time in Unix ms, by which messages expire.
	Now int64
	// Keep is for how long a message is kept that says nothing itself, in ms; 0 is for
	// ever.
	Keep int64
}

// Ends is when a record is no more (Unix ms), 0 for never: at the message's expiry, or
// when it has been kept for long enough. One whose age is not known has no end but the
// first.
func (t Term) Ends(r *Record) int64 {
	ends := r.Message.Expires
	if t.Keep > 0 && r.At != 0 && (ends == 0 || r.At+t.Keep < ends) {
		ends = r.At + t.Keep
	}
	return ends
}

// Over reports whether a record is no more.
func (t Term) Over(r *Record) bool {
	ends := t.Ends(r)
	return ends != 0 && ends <= t.Now
}
