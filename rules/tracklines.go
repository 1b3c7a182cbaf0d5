package rules

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/geocast/geocast/geo"
)

// readLines reads a JSON object a line: what writeLines wrote, or what `geocast sub -t users/+/location` printed, whose ts (in
// milliseconds) is the arrival. Unknown names are left alone.
func readLines(r io.Reader) ([]geo.Fix, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var fixes []geo.Fix
	n := 0
	for lines.Scan() {
		n++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		fix, err := readLine(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("track: line %d: %w", n, err)
		}
		fixes = append(fixes, fix)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("track: line %d: %w", n+1, err)
	}
	return fixes, nil
}

func readLine(line []byte) (fix geo.Fix, err error) {
	var report map[string]any
	if err := json.Unmarshal(line, &report); err != nil {
		return fix, fmt.Errorf("not a JSON object: %w", err)
	}
	if ts, ok := report["ts"].(float64); ok {
		fix.Recv = int64(ts)
	}
	for _, field := range trackFields {
		value, has := report[field]
		if !has || value == nil {
			if field == "lat" || field == "lon" || field == "tst" {
				return fix, fmt.Errorf("no %s", field)
			}
			continue
		}
		if err := setTrackField(&fix, field, value); err != nil {
			return fix, err
		}
	}
	if !fix.Valid() {
		return fix, errors.New("no valid lat and lon")
	}
	return fix, nil
}

func writeLines(w *bufio.Writer, fixes iter.Seq[geo.Fix]) error {
	var line []byte
	for f := range fixes {
		line = line[:0]
		for _, field := range trackFields {
			text, has := fieldText(&f, field)
			switch {
			case !has:
			case isWord(field):
				line = appendField(line, field, text)
			default:
				line = append(append(append(append(line, `,"`...), field...), `":`...), text...)
			}
		}
		line[0] = '{'
		if _, err := w.Write(append(line, '}', '\n')); err != nil {
			return err
		}
	}
	return nil
}
