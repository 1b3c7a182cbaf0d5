package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/regular"
	"github.com/geocast/geocast/rules"
	"github.com/geocast/geocast/store"
)

// readTracks reads the fixes of files. Those that don't say whose they are become
// those of who.
func readTracks(names []string, who string) ([]geo.Fix, error) {
	var all []geo.Fix
	for _, name := range names {
		fixes, err := readTrack(name)
		if err != nil {
			return nil, err
		}
		for i := range fixes {
			if fixes[i].Who == "" {
				fixes[i].Who = who
			}
			if fixes[i].Who == "" {
				return nil, fmt.Errorf("%s: does not say whose fixes these are; give --who NAME", name)
			}
		}
		all = append(all, fixes...)
	}
	return all, nil
}

func readTrack(name string) ([]geo.Fix, error) {
	f, err := regular.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	fixes, err := rules.ReadTrack(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return fixes, nil
}

type tracksCmd struct {
	Export tracksExportCmd `cmd:"" help:"Write the fixes that a stopped broker has kept."`
}

type tracksExportCmd struct {
	Data    string `required:"" help:"Folder of the durable store." type:"existingdir" placeholder:"DIR"`
	User    string `help:"Of this user only." placeholder:"NAME"`
	Tracker string `help:"Of this tracker only." placeholder:"NAME"`
	From    string `help:"Measured then or later: RFC 3339, a day (UTC) or Unix seconds." placeholder:"TIME"`
	To      string `help:"Measured then or earlier; a day counts whole." placeholder:"TIME"`
	Format  string `default:"gpx" enum:"gpx,csv,jsonl" help:"gpx, csv or jsonl."`
}

// Help shows an example.
func (tracksExportCmd) Help() string {
	return `Writes to standard output, tracker by tracker, what "geocast rules test --track" reads.
Only one process has the store open: stop the broker before.

Example:
  geocast tracks export --data ./data --user tim --from 2026-09-21 --format gpx > tim.gpx`
}

// Run writes the fixes.
func (c *tracksExportCmd) Run() error {
	q := georules.Query{Who: c.User, Tracker: c.Tracker}
	var err error
	if q.From, _, err = parseTime("--from", c.From); err != nil {
		return usageError{err}
	}
	if _, q.To, err = parseTime("--to", c.To); err != nil {
		return usageError{err}
	}
	if c.To != "" && q.To < q.From {
		return usageError{fmt.Errorf("--to %s is before --from %s", c.To, c.From)}
	}
	s, err := openStopped(c.Data)
	if err != nil {
		return err
	}
	err = export(os.Stdout, broker.HookRecords(s, georules.RecordsName), q, rules.TrackFormat(c.Format))
	return errors.Join(err, s.Close())
}

// export writes the kept fixes of a query.
func export(w io.Writer, r hooks.Reader, q georules.Query, format rules.TrackFormat) error {
	var failed error
	n := 0
	err := rules.WriteTrack(w, format, func(yield func(geo.Fix) bool) {
		failed = georules.History(r, q, func(f geo.Fix) bool { n++; return yield(f) })
	})
	if n == 0 && err == nil && failed == nil {
		return errors.New("no fix is kept of what was asked for")
	}
	return errors.Join(failed, err)
}

// openStopped opens the store of a broker that does not run.
func openStopped(dir string) (store.Store, error) {
	if _, err := os.Stat(filepath.Join(dir, "MANIFEST")); err != nil {
		return nil, usageError{fmt.Errorf("%s is no data folder of geocast", dir)}
	}
	s, _, err := store.Open(dir, store.Options{Memory: 64 << 20, Log: slog.New(slog.DiscardHandler)})
	if errors.Is(err, store.ErrInUse) {
		return nil, fmt.Errorf("%s is in use: stop the broker first", dir)
	}
	return s, err
}

// parseTime reads a time, or a day as its first and last millisecond, in Unix ms. An
// empty text is 0.
func parseTime(flag, text string) (first, last int64, err error) {
	if text == "" {
		return 0, 0, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.UnixMilli(), day.AddDate(0, 0, 1).UnixMilli() - 1, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at.UnixMilli(), at.UnixMilli(), nil
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil && s >= 0 && s < 1e11 {
		return int64(math.Round(s * 1000)), int64(math.Round(s * 1000)), nil
	}
	return 0, 0, fmt.Errorf("%s %q is no time; write it like 2026-09-21, 2026-09-21T14:15:00Z or 1790000100", flag, text)
}
