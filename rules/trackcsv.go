package rules

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/strictyaml"
)

func readCSV(r io.Reader) ([]geo.Fix, error) {
	lines := csv.NewReader(&lineBound{r: r})
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
		fix, err := readCells(columns, cells)
		if err != nil {
			line, _ := lines.FieldPos(0)
			return nil, fmt.Errorf("track: line %d: %w", line, err)
		}
		fixes = append(fixes, fix)
	}
}

func checkColumns(columns []string) error {
	for i, c := range columns {
		if !slices.Contains(trackFields, c) {
			hint := strictyaml.DidYouMean(c, trackFields)
			if hint == "" {
				hint = "; known are " + strictyaml.OneOf(trackFields)
			}
			return fmt.Errorf("track: line 1: unknown column %q%s", c, hint)
		}
		if slices.Contains(columns[:i], c) {
			return fmt.Errorf("track: line 1: column %q stands there twice", c)
		}
	}
	for _, c := range []string{"lat", "lon", "tst"} {
		if !slices.Contains(columns, c) {
			return fmt.Errorf("track: line 1: no column %q", c)
		}
	}
	return nil
}

func readCells(columns, cells []string) (fix geo.Fix, err error) {
	for i, cell := range cells {
		if cell == "" && !slices.Contains([]string{"lat", "lon", "tst"}, columns[i]) {
			continue
		}
		if err := setTrackField(&fix, columns[i], cellValue(columns[i], cell)); err != nil {
			return fix, err
		}
	}
	if !fix.Valid() {
		return fix, errors.New("no valid lat and lon")
	}
	return fix, nil
}

// cellValue is a number if the cell looks like one and its column is not of texts.
func cellValue(column, cell string) any {
	if n, err := strconv.ParseFloat(cell, 64); err == nil && !isWord(column) {
		return n
	}
	return cell
}

func writeCSV(w *bufio.Writer, fixes iter.Seq[geo.Fix]) error {
	lines := csv.NewWriter(w)
	err := lines.Write(trackFields)
	cells := make([]string, len(trackFields))
	for f := range fixes {
		for i, field := range trackFields {
			cells[i] = ""
			if text, has := fieldText(&f, field); has {
				cells[i] = text
			}
		}
		if err == nil {
			err = lines.Write(cells)
		}
	}
	lines.Flush()
	return errors.Join(err, lines.Error())
}
