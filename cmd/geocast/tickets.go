package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/geocast/geocast/regular"
)

// tickets are the keys of TLS session tickets, newest first. They are kept in a file, so
// that clients that come back after a restart resume: a full handshake for each of
// thousands at once costs several times the CPU. TLS 1.3 makes new keys for what is
// sent all the same; who has the file can pose as a client's resumed session.
type tickets []ticketKey

// ticketKey is one of them.
type ticketKey struct {
	Made time.Time `json:"made"`
	Key  [32]byte  `json:"key"`
}

// A key makes tickets for a day, and opens them for a week, as those do that
// crypto/tls changes by itself.
const (
	ticketKeyMakes = 24 * time.Hour
	ticketKeyOpens = 7 * ticketKeyMakes
)

// rotated drops keys that are too old, or of the future, and adds one if the newest has
// made tickets for long enough.
func (t tickets) rotated(now time.Time) tickets {
	var kept tickets
	for _, k := range t {
		if age := now.Sub(k.Made); age >= 0 && age < ticketKeyOpens {
			kept = append(kept, k)
		}
	}
	if len(kept) > 0 && now.Sub(kept[0].Made) < ticketKeyMakes {
		return kept
	}
	k := ticketKey{Made: now}
	rand.Read(k.Key[:]) //nolint:errcheck // it never fails
	return append(tickets{k}, kept...)
}

// readTickets reads a file of keys; one that is not there holds none.
func readTickets(file string) (t tickets, err error) {
	text, err := regular.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	return t, err
}

// write replaces the file.
func (t tickets) write(file string) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	part := file + ".part"
	return errors.Join(os.WriteFile(part, text, 0o600), os.Rename(part, file))
}

// ticketFile keeps the keys of a tls.Config in a data folder.
type ticketFile struct {
	name   string
	config *tls.Config
	log    *slog.Logger
	keys   tickets
}

// keepTickets has the keys of c live in dir.
func keepTickets(c *tls.Config, dir string, log *slog.Logger) *ticketFile {
	f := &ticketFile{name: filepath.Join(dir, "tls-tickets"), config: c, log: log}
	var err error
	if f.keys, err = readTickets(f.name); err != nil {
		log.Warn("the keys of TLS session tickets could not be read: clients make full handshakes", "file", f.name, "err", err)
	}
	f.rotate(time.Now().UTC())
	return f
}

// rotate makes a new key if it is time for one.
func (f *ticketFile) rotate(now time.Time) {
	f.keys = f.keys.rotated(now)
	f.keys.open(f.config)
	if err := f.keys.write(f.name); err != nil {
		f.log.Warn("the keys of TLS session tickets could not be kept: clients make full handshakes after a restart", "file", f.name, "err", err)
	}
}

// watch looks every hour, until ctx ends.
func (f *ticketFile) watch(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.rotate(time.Now().UTC())
		case <-ctx.Done():
			return
		}
	}
}

// open has c use the keys.
func (t tickets) open(c *tls.Config) {
	keys := make([][32]byte, len(t))
	for i := range t {
		keys[i] = t[i].Key
	}
	c.SetSessionTicketKeys(keys)
}
