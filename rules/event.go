package rules

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/geocast/geocast/geo"
)

// A Situation is what raises an event. The zero value is invalid.
type Situation byte

// The situations of a rule's `when`; the package doc defines them.
const (
	Exit Situation = iota + 1
	Enter
	Inside
	Near
)

var situationNames = [...]string{"", "exit", "enter", "inside", "near"}

// String returns the word of the rules file.
func (s Situation) String() string {
	if int(s) < len(situationNames) {
		return situationNames[s]
	}
	return ""
}

// An Event is what a rule tells its recipients about a fix. It is a value; its Recipients are not to be changed.
type Event struct {
	ID           string        // the same for the same event, whenever and wherever it is computed
	Rule         string        // the rule's id
	Situation    Situation     // what happened
	Zone         string        // where; empty for Near
	Who          string        // the subject: whose position this is
	Tracker      string        // the subject's tracker
	With         string        // the user met; Near only
	WithTracker  string        // the tracker of With that is near
	geo.Position               // of the subject
	Acc          float64       // metres; 0 unknown
	Tst          int64         // ms since 1970, when that position was measured
	Recipients   []string      // users whose inbox gets it: sorted, each once
	Topic        string        // the plain topic that gets it, too; empty: none
	QoS          byte          // of Topic
	Expiry       time.Duration // after which it need not be delivered; 0: never ends
	Text         string        // the rule's send.text, filled in
}

// AppendJSON appends e as an inbox event: seq and epoch are the inbox's numbering, ts is core time in milliseconds.
// An empty epoch leaves out both numbers, for an event that goes to a topic.
func (e *Event) AppendJSON(dst []byte, seq uint64, epoch string, ts int64) []byte {
	dst = append(dst, `{"v":1`...)
	if epoch != "" {
		dst = append(dst, `,"seq":`...)
		dst = strconv.AppendUint(dst, seq, 10)
		dst = appendField(dst, "epoch", epoch)
	}
	dst = append(dst, `,"type":"geo"`...)
	dst = appendField(dst, "rule", e.Rule)
	dst = appendField(dst, "event", e.Situation.String())
	dst = appendField(dst, "zone", e.Zone)
	dst = appendField(dst, "who", e.Who)
	dst = appendField(dst, "tracker", e.Tracker)
	dst = appendField(dst, "with", e.With)
	dst = appendNumber(dst, "lat", e.Lat)
	dst = appendNumber(dst, "lon", e.Lon)
	if e.Acc > 0 {
		dst = appendNumber(dst, "acc", e.Acc)
	}
	dst = append(dst, `,"tst":`...)
	dst = appendSeconds(dst, e.Tst)
	dst = append(dst, `,"ts":`...)
	dst = strconv.AppendInt(dst, ts, 10)
	dst = appendField(dst, "id", e.ID)
	dst = appendField(dst, "text", e.Text)
	return append(dst, '}')
}

// appendField appends ,"name":"value", or nothing if value is empty.
func appendField(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return appendString(dst, value)
}

func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

func appendNumber(dst []byte, name string, value float64) []byte {
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return strconv.AppendFloat(dst, value, 'f', -1, 64)
}

// appendSeconds appends ms as seconds, with a fraction only if there is one.
func appendSeconds(dst []byte, ms int64) []byte {
	if ms%1000 == 0 {
		return strconv.AppendInt(dst, ms/1000, 10)
	}
	return strconv.AppendFloat(dst, float64(ms)/1000, 'f', 3, 64)
}

var idAlphabet = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// stamp sets the id: a hash of what makes the event this one. Position and recipients are not part of it; at is the event time of
// the fix that raised it, which in a meeting may be the partner's.
func (e *Event) stamp(at int64) {
	var room [256]byte
	b := append(room[:0], byte(e.Situation))
	for _, s := range [...]string{e.Rule, e.Zone, e.Who, e.Tracker, e.With, e.WithTracker} {
		b = append(b, s...)
		b = append(b, 0)
	}
	b = strconv.AppendInt(b, at, 10)
	sum := sha256.Sum256(b)
	e.ID = idAlphabet.EncodeToString(sum[:15])
}
