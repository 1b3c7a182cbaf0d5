package rules

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/geocast/geocast/geo"
)

// ReadTrack reads recorded fixes from CSV, for [Test]. The first line names the columns: who, lat, lon and tst must be there;
// tracker, acc, alt, vel, cog, batt, event, id and recv may. Times are seconds since 1970 or RFC 3339; an empty cell is absent.
// An error names the line.
func ReadTrack(r io.Reader) ([]geo.Fix, error) {
	lines := csv.NewReader(r)
	lines.ReuseRecord = true
	first, err := lines.Read()
	if err != nil {
		return nil, fmt.Errorf("track: %w", err)
	}
	columns := slices.Clone(first)
	if err := checkColumns(columns); err != nil {
		return nil, err
	}
	var fixes []geo.Fix
	for {
		cells, err := lines.Read()
		switch {
		case errors.Is(err, io.EOF):
			return fixes, nil
		case err != nil:
			return nil, fmt.Errorf("track: %w", err)
		}
		fix, err := readFix(columns, cells)
		if err != nil {
			line, _ := lines.FieldPos(0)
			return nil, fmt.Errorf("track: line %d: %w", line, err)
		}
		fixes = append(fixes, fix)
	}
}

func checkColumns(columns []string) error {
	allowed := append([]string{"recv"}, mapWords...)
	for _, c := range columns {
		if !slices.Contains(allowed, c) {
			return fmt.Errorf("track: line 1: unknown column %q%s", c, didYouMean(c, allowed))
		}
	}
	for _, c := range []string{"who", "lat", "lon", "tst"} {
		if !slices.Contains(columns, c) {
			return fmt.Errorf("track: line 1: no column %q", c)
		}
	}
	return nil
}

func readFix(columns, cells []string) (geo.Fix, error) {
	var fix geo.Fix
	for i, cell := range cells {
		if cell == "" {
			continue
		}
		var err error
		if columns[i] == "recv" {
			var arrival geo.Fix
			err = setTime(&arrival, cellValue(cell))
			fix.Recv = arrival.Tst
		} else {
			err = setField(&fix, columns[i], cellValue(cell))
		}
		if err != nil {
			return fix, err
		}
	}
	if !fix.Valid() {
		return fix, errors.New("no valid lat and lon")
	}
	return fix, nil
}

// cellValue is a number if cell looks like one.
func cellValue(cell string) any {
	if n, err := strconv.ParseFloat(cell, 64); err == nil {
		return n
	}
	return cell
}
