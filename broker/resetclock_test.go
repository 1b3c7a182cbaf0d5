package broker_test

import (
	"encoding/binary"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// A store that was written in the future is refused with the way out named, and the
// way out leads on: what was acknowledged is there, and time goes on from now.
func TestStoreFromTheFutureStartsWithResetClock(t *testing.T) {
	dir := t.TempDir()
	cfg := broker.Config{Data: dir, Log: slog.New(slog.DiscardHandler)}
	b, err := broker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	pub(t, b, &mqtt.Message{Topic: "kept", Payload: []byte("x"), QoS: 1, Retain: true})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	setSavedTime(t, dir, time.Now().Add(23*time.Hour)) // less than a day is waited for
	if b, err = broker.New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	setSavedTime(t, dir, time.Now().Add(25*time.Hour))
	if b, err := broker.New(cfg); err == nil || !strings.Contains(err.Error(), "--reset-clock") {
		t.Fatalf("got %v, %v", b, err)
	}
	cfg.ResetClock = true
	_, addr := start(t, cfg)
	c := dial(t, addr, mqtt.V5)
	c.connect("c")
	c.subscribe("#", 0)
	c.want("kept", "x")
}

// setSavedTime changes the core's record: kind, version, then the time in Unix ms.
func setSavedTime(t *testing.T, dir string, at time.Time) {
	t.Helper()
	s, _, err := store.Open(dir, store.Options{Memory: 64 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	const tableMeta store.Table = 0x26
	v, err := s.Get(tableMeta, []byte("core"))
	if err != nil {
		t.Fatal(err)
	}
	v = append([]byte(nil), v...)
	binary.BigEndian.PutUint64(v[2:], uint64(at.UnixMilli()))
	var w store.Batch
	w.Put(tableMeta, []byte("core"), v)
	if err := s.Commit(&w); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
