package rules

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/geocast/geocast/geo"
)

// A TrackFormat is how recorded fixes are written to a file.
type TrackFormat string

// The formats of tracks. All hold every field of a fix, so that what was written is read back the same.
const (
	GPX   TrackFormat = "gpx"   // GPX 1.1; what it has no element for stands in extensions
	CSV   TrackFormat = "csv"   // a header, then a line a fix
	JSONL TrackFormat = "jsonl" // a JSON object a line, with the names of docs/wire.md
)

// trackFields are the names of a fix's fields in tracks, in the order in which they are written.
var trackFields = []string{"who", "tracker", "lat", "lon", "tst", "recv", "acc", "alt", "vel", "cog", "batt", "event", "id"}

// ReadTrack reads recorded fixes, for [Test]. It sees by the first character which format it is: GPX 1.0 or 1.1, JSON lines, or
// CSV, whose first line names the columns (trackFields; lat, lon and tst must be there). Times are seconds since 1970 or RFC 3339.
// A track need not say whose it is: Who and Tracker are empty then. An error names the line.
func ReadTrack(r io.Reader) ([]geo.Fix, error) {
	text := bufio.NewReader(r)
	first, err := skipSpace(text)
	if err != nil {
		return nil, fmt.Errorf("track: %w", err)
	}
	switch first {
	case '<':
		return readGPX(text)
	case '{':
		return readLines(text)
	}
	return readCSV(text)
}

// maxLine bounds a line of a track, in bytes: a track is read line by line, and holds its fixes only.
const maxLine = 1 << 20

// A lineBound reads r, which must not have a line that is longer than maxLine.
type lineBound struct {
	r    io.Reader
	line int // bytes since the last end of a line
}

func (b *lineBound) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(len(p), maxLine)])
	b.line += n
	if at := bytes.LastIndexByte(p[:n], '\n'); at >= 0 {
		b.line = n - at - 1
	}
	if b.line > maxLine {
		return 0, fmt.Errorf("a line is longer than %d MB", maxLine>>20)
	}
	return n, err
}

// skipSpace drops a byte-order mark and returns the first character that is no space, which stays unread.
func skipSpace(r *bufio.Reader) (byte, error) {
	if mark, err := r.Peek(3); err == nil && bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		if _, err := r.Discard(3); err != nil {
			return 0, err
		}
	}
	ahead, err := r.Peek(512)
	if len(ahead) == 0 {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return 0, err
	}
	if text := bytes.TrimLeft(ahead, " \t\r\n"); len(text) > 0 {
		return text[0], nil
	}
	return 0, errors.New("it begins with nothing but space")
}

// WriteTrack writes fixes, which come tracker by tracker. [ReadTrack] reads them back the same.
func WriteTrack(w io.Writer, format TrackFormat, fixes iter.Seq[geo.Fix]) error {
	out := bufio.NewWriter(w)
	var err error
	switch format {
	case GPX:
		err = writeGPX(out, fixes)
	case CSV:
		err = writeCSV(out, fixes)
	case JSONL:
		err = writeLines(out, fixes)
	default:
		err = fmt.Errorf("track: %q is no format; gpx, csv or jsonl", format)
	}
	return errors.Join(err, out.Flush())
}

// setTrackField sets one of trackFields.
func setTrackField(fix *geo.Fix, field string, value any) error {
	if field != "recv" {
		return setField(fix, field, value)
	}
	var arrival geo.Fix
	if err := setTime(&arrival, value); err != nil {
		return fmt.Errorf("recv: %w", err)
	}
	fix.Recv = arrival.Tst
	return nil
}

// isWord reports whether a field of a track is a text.
func isWord(field string) bool {
	return slices.Contains([]string{"who", "tracker", "event", "id"}, field)
}

// fieldText returns one of trackFields as it is written in text; false if the fix does not carry it.
func fieldText(f *geo.Fix, field string) (string, bool) {
	has := func(h geo.Has, v float64) (string, bool) { return number(v), f.Has&h != 0 }
	switch field {
	case "who":
		return f.Who, f.Who != ""
	case "tracker":
		return f.Tracker, f.Tracker != ""
	case "lat":
		return number(f.Lat), true
	case "lon":
		return number(f.Lon), true
	case "tst":
		return string(appendSeconds(nil, f.Tst)), true
	case "recv":
		return string(appendSeconds(nil, f.Recv)), f.Recv > 0
	case "acc":
		return number(f.Acc), f.Acc > 0
	case "alt":
		return has(geo.HasAlt, f.Alt)
	case "vel":
		return has(geo.HasVel, f.Vel)
	case "cog":
		return has(geo.HasCog, f.Cog)
	case "batt":
		return has(geo.HasBatt, f.Batt)
	case "event":
		return f.Event, f.Event != ""
	}
	return f.ID, f.ID != ""
}
