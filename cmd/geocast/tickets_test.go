package main

import (
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTicketKeysRotate(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	var keys tickets
	for _, tt := range []struct {
		name   string
		now    time.Time
		keys   int
		newest time.Time
	}{
		{"the first", day(1), 1, day(1)},
		{"within a day", day(1).Add(23 * time.Hour), 1, day(1)},
		{"after a day", day(2), 2, day(2)},
		{"when the first is a week old", day(8), 2, day(8)},
		{"after a long time", day(30), 1, day(30)},
		{"by a clock that was set back", day(20), 1, day(20)},
	} {
		keys = keys.rotated(tt.now)
		if len(keys) != tt.keys || !keys[0].Made.Equal(tt.newest) {
			t.Errorf("%s: %d keys, the newest of %v", tt.name, len(keys), keys[0].Made)
		}
	}
}

// shake makes a handshake with a server that keeps its keys in dir, and reports whether
// it resumed what the cache holds.
func shake(t *testing.T, files tlsConfig, dir string, cache tls.ClientSessionCache) (resumed bool) {
	t.Helper()
	c, err := loadCerts(files)
	if err != nil {
		t.Fatal(err)
	}
	keepTickets(c.config(), dir, slog.New(slog.DiscardHandler))
	l, err := tls.Listen("tcp", "127.0.0.1:0", c.config())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if nc, err := l.Accept(); err == nil {
			nc.Write([]byte{0}) //nolint:errcheck // the client says so
			nc.Close()
		}
	}()
	client, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache, ServerName: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Read(make([]byte, 1)); err != nil { // the ticket comes before it
		t.Fatal(err)
	}
	return client.ConnectionState().DidResume
}

func TestTLSClientsResumeAfterARestart(t *testing.T) {
	dir, cache := t.TempDir(), tls.NewLRUClientSessionCache(1)
	cert, key, err := writeCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	files := tlsConfig{Cert: cert, Key: key}
	if shake(t, files, dir, cache) {
		t.Fatal("the first handshake resumed something")
	}
	if !shake(t, files, dir, cache) {
		t.Error("a new process of the same folder did not know the ticket")
	}
	if shake(t, files, t.TempDir(), cache) {
		t.Error("one of another folder did")
	}
	file := filepath.Join(dir, "tls-tickets")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the keys: %v %v", info.Mode(), err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	shake(t, files, dir, cache) // full, or by what the last one left: but it comes to be
}
