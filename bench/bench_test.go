package bench_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/bench"
	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// serve starts a broker; address may say where.
func serve(t *testing.T, address, dir string) (*broker.Broker, bench.Target) {
	t.Helper()
	b, err := broker.New(broker.Config{Data: dir, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.Listen("mqtt://" + address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() }) //nolint:errcheck // closed again
	return b, bench.Target{Address: a.String(), Busy: func() time.Duration { return b.Stats().Busy }}
}

// Each load ends, and counts what it sent: nothing lost, nothing twice.
func TestFlows(t *testing.T) {
	_, target := serve(t, "127.0.0.1:0", t.TempDir())
	for qos := byte(0); qos <= 2; qos++ {
		for _, f := range []bench.Flow{
			{Name: "pairs", Publishers: 10, Subscribers: 1, Window: 16, Messages: 500},
			{Name: "one at a time", Publishers: 10, Subscribers: 1, Window: 1, Messages: 200},
			{Name: "by the clock", Publishers: 10, Subscribers: 1, Window: 1000, Rate: 5000, Messages: 500},
			{Name: "fan-out", Publishers: 1, Subscribers: 50, Window: 16, Messages: 20},
			{Name: "lasting", Publishers: 10, Subscribers: 1, Window: 16, Messages: 200, Lasting: true},
		} {
			t.Run(fmt.Sprintf("%s, QoS %d", f.Name, qos), func(t *testing.T) {
				f.QoS, f.Size = qos, 64
				r, err := f.Run(target)
				if err != nil {
					t.Fatal(err)
				}
				if want := f.Messages * f.Subscribers; r.Messages != want || r.P50 <= 0 || r.Took <= 0 {
					t.Errorf("got %+v, want %d messages", r, want)
				}
			})
		}
	}
}

func TestOfflineFillsAndDrains(t *testing.T) {
	_, target := serve(t, "127.0.0.1:0", t.TempDir())
	fill, drain, err := bench.Offline{Name: "away", Publishers: 5, Window: 16, Messages: 500, Size: 100}.Run(target)
	if err != nil || fill.Messages != 500 || drain.Messages != 500 {
		t.Errorf("got %v and %v, %v", fill, drain, err)
	}
}

func TestIdleConnections(t *testing.T) {
	b, target := serve(t, "127.0.0.1:0", "")
	web := http.NewServeMux()
	web.Handle("/mqtt", b.Handler())
	s := httptest.NewServer(web)
	defer s.Close()
	for name, idle := range map[string]bench.Idle{
		"tcp": {Connections: 50},
		"ws":  {Connections: 50, Dial: bench.DialWebSocket},
	} {
		t.Run(name, func(t *testing.T) {
			at := target
			if name == "ws" {
				at.Address = strings.TrimPrefix(s.URL, "http://")
			}
			if r, err := idle.Run(at); err != nil || r.Messages != 50 {
				t.Errorf("got %v, %v", r, err)
			}
		})
	}
}

func TestRetainedTopicsAreReplayed(t *testing.T) {
	_, target := serve(t, "127.0.0.1:0", "")
	r := bench.Retained{Topics: 3000, Size: 20, Publishers: 7, Window: 16}
	fill, _, err := r.Fill(target)
	if err != nil || fill.Messages != 3000 {
		t.Fatalf("got %v, %v", fill, err)
	}
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		p, err := r.Replay(target, v, 3, time.Minute)
		if err != nil || !p.All || p.Messages != 9000 || p.Suback <= 0 || p.First < p.Suback {
			t.Errorf("got %+v, %v", p, err)
		}
	}
}

func TestAFleetComesBack(t *testing.T) {
	dir := t.TempDir()
	b, target := serve(t, "127.0.0.1:0", dir)
	f := bench.Fleet{Name: "fleet", Clients: 120, Login: func(i int) (string, string) { return fmt.Sprint("u", i), "" }}
	first, back, err := f.Run(target, func() (bench.Target, error) {
		if err := b.Close(); err != nil {
			return bench.Target{}, err
		}
		_, again := serve(t, target.Address, dir)
		return again, nil
	})
	if err != nil || first.Messages != 120 || back.Messages != 120 || back.P99 > back.Took {
		t.Errorf("got %v and %v, %v", first, back, err)
	}
}

// Every Strain has a name of its own and says what it uses; a few of them, made small,
// run to their end without harm to the pair.
func TestStrains(t *testing.T) {
	names := map[string]bool{}
	for _, s := range bench.Strains(0.02) {
		if names[s.Name] || s.Transport == "" {
			t.Errorf("%q, transport %q", s.Name, s.Transport)
		}
		names[s.Name] = true
		if s.Transport != "tcp" || !strings.Contains(s.Name, "wills of 60 KB") && !strings.Contains(s.Name, "to 20 that") && !strings.Contains(s.Name, "shared groups") {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			_, target := serve(t, "127.0.0.1:0", t.TempDir())
			if r := s.Run(target, target.Address, 500*time.Millisecond); r.Err != nil || r.Pair.Messages != 5 || r.Connected == 0 {
				t.Errorf("got %+v", r)
			}
		})
	}
}
