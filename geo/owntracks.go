package geo

import (
	"math"
	"strconv"
)

// OwnTracks is what an OwnTracks message says beside its position, as far as the apps of
// friends show it. The names of networks and pictures, which tell more than a position,
// are not among it. It must not be changed once a Fix has it.
type OwnTracks struct {
	// Kind is the message's _type, such as location or transition.
	Kind string
	// words and whole numbers by their names, in the order of passed.
	fields []field
}

type field struct {
	name, json string
}

// passed are the fields that are passed on if they are of the right kind: w is a word
// of up to maxWord bytes, n a number that is made whole, l a list of words.
var passed = []struct {
	name string
	kind byte
}{
	{"tid", 'w'}, {"t", 'w'}, {"conn", 'w'}, {"bs", 'n'}, {"m", 'n'}, {"vac", 'n'}, {"inregions", 'l'}, {"inrids", 'l'},
	{"tag", 'w'}, {"poi", 'w'}, {"desc", 'w'}, {"rid", 'w'}, {"wtst", 'n'}, {"created_at", 'n'},
}

// maxList bounds the regions that somebody is in at once.
const maxList = 20

// ownTracks reads the fields of a message that friends' apps show.
func ownTracks(kind string, raw map[string]any) *OwnTracks {
	o := &OwnTracks{Kind: kind}
	for _, p := range passed {
		if text := passOn(raw[p.name], p.kind); text != "" {
			o.fields = append(o.fields, field{p.name, text})
		}
	}
	return o
}

// passOn is a value as we write it, empty for one that is not of its kind.
func passOn(v any, kind byte) string {
	switch v := v.(type) {
	case string:
		if kind == 'w' && v != "" && len(v) <= maxWord {
			return string(appendQuoted(nil, v))
		}
	case float64:
		if kind == 'n' && math.Abs(v) < maxTst {
			return strconv.FormatInt(int64(math.Round(v)), 10)
		}
	case uint64: // as CBOR has it
		return passOn(float64(v), kind)
	case int64:
		return passOn(float64(v), kind)
	case []any:
		if kind == 'l' && len(v) <= maxList {
			return passList(v)
		}
	}
	return ""
}

func passList(list []any) string {
	dst := []byte{'['}
	for i, v := range list {
		text := passOn(v, 'w')
		if text == "" {
			return ""
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, text...)
	}
	return string(append(dst, ']'))
}

// AppendOwnTracks appends the fix as an OwnTracks location. Its apps take whole numbers
// for all but latitude and longitude, and call a tracker by two letters: its own tid, or
// the last two of its name.
func (f *Fix) AppendOwnTracks(dst []byte) []byte {
	dst = appendNumber(append(dst, `{"_type":"location","lat":`...), f.Lat)
	dst = appendNumber(append(dst, `,"lon":`...), f.Lon)
	dst = strconv.AppendInt(append(dst, `,"tst":`...), f.Tst/1000, 10)
	if f.Acc > 0 {
		dst = appendNumber(append(dst, `,"acc":`...), math.Round(f.Acc))
	}
	for _, m := range f.optional() {
		if f.Has&m.has != 0 {
			dst = appendNumber(append(dst, m.name...), math.Round(m.v))
		}
	}
	if f.App == nil || f.App.Kind != "location" {
		return append(f.appendTID(dst), '}')
	}
	return append(f.appendApp(dst), '}')
}

// AppendTransition appends the fix as the OwnTracks transition that it came as: App must
// be set.
func (f *Fix) AppendTransition(dst []byte) []byte {
	dst = appendQuoted(append(dst, `{"_type":"transition","event":`...), f.Event)
	dst = appendNumber(append(dst, `,"lat":`...), f.Lat)
	dst = appendNumber(append(dst, `,"lon":`...), f.Lon)
	dst = strconv.AppendInt(append(dst, `,"tst":`...), f.Tst/1000, 10)
	if f.Acc > 0 {
		dst = appendNumber(append(dst, `,"acc":`...), math.Round(f.Acc))
	}
	return append(f.appendApp(dst), '}')
}

// appendApp appends what the app says beside, with a tid in any case.
func (f *Fix) appendApp(dst []byte) []byte {
	if len(f.App.fields) == 0 || f.App.fields[0].name != "tid" {
		dst = f.appendTID(dst)
	}
	for _, p := range f.App.fields {
		dst = append(append(append(append(dst, `,"`...), p.name...), `":`...), p.json...)
	}
	return dst
}

func (f *Fix) appendTID(dst []byte) []byte {
	tid := []rune(f.Tracker)
	return appendQuoted(append(dst, `,"tid":`...), string(tid[max(0, len(tid)-2):]))
}

// Untracked looks at a payload of which DecodeFixes makes neither fixes nor rejections:
// kind is the _type of the OwnTracks message that it is, or that is the first of them, and
// tst its time in Unix seconds, 0 if it says none that can be one.
func Untracked(payload []byte) (kind string, tst int64) {
	rs, err := reports(payload)
	if err != nil || len(rs) == 0 {
		return "", 0
	}
	if t := rs[0].Tst; t != nil && *t >= 1 && *t < maxTst {
		tst = int64(*t)
	}
	return rs[0].Kind, tst
}

// AppendLWT appends OwnTracks' last will, by which listeners learn that a device is gone;
// tst is in Unix seconds.
func AppendLWT(dst []byte, tst int64) []byte {
	return append(strconv.AppendInt(append(dst, `{"_type":"lwt","tst":`...), tst, 10), '}')
}

// unmarshal reads a report, and once more if it is of an OwnTracks app: what its friends
// are shown is of no interest in other formats, where the names may mean something else.
func (r *read) unmarshal(b []byte, unmarshal func([]byte, any) error) error {
	if err := unmarshal(b, &r.report); err != nil || r.Kind == "" {
		return err
	}
	var raw map[string]any
	_ = unmarshal(b, &raw) // the report has been read: what can't be is not passed on
	r.app = ownTracks(r.Kind, raw)
	return nil
}
