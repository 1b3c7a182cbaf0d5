package georules_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

// reloaded is depot with one rule said differently, another zone, and a rule more.
const reloaded = `
version: 1
zones:
  before: {circle: {lat: 48, lon: 11, radius: 99m}}
  depot: {circle: {lat: 48, lon: 11, radius: 100m}}
rules:
  new: {when: {enter: before}, to: {user: nobody}}
  in:  {when: {enter: depot}, to: {user: boss}, send: {text: "{{.who}} came"}}
  out: {when: {exit: depot}, to: {user: boss}}
  met: {when: {near: {within: 50m}}, to: self}
`

// TestMain lets the test binary be the broker that a test kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("GEOCAST_TEST_RULES"); dir != "" {
		fmt.Println(serveRules(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serveRules serves until it is killed. A line of input replaces the rules.
func serveRules(dir string) error {
	var sets [2]*rules.Set
	for i, text := range []string{depot, reloaded} {
		set, err := rules.Parse("rules.yaml", []byte(text), nil)
		if err != nil {
			return err
		}
		sets[i] = set
	}
	h := georules.New(sets[0], crowd{})
	b, err := broker.New(broker.Config{Data: dir, Log: slog.New(slog.DiscardHandler), Hooks: []any{h}})
	if err != nil {
		return err
	}
	addr, err := b.Listen("mqtt://127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(addr)
	in := bufio.NewScanner(os.Stdin)
	for n := 1; in.Scan(); n++ {
		h.Replace(sets[n%2])
		b.Refilter()
	}
	return in.Err()
}

// crowd are people who are all in one group, so that all may meet.
type crowd struct{}

func (crowd) User(name string) (rules.Person, bool) {
	return rules.Person{Name: name, Groups: []string{"all"}}, true
}
func (crowd) Group(string) []string { return nil }
func (crowd) Role(string) []string  { return nil }
func (crowd) Tag(string) []string   { return nil }

// P9: the broker is killed again and again, and its rules are reloaded, in the middle
// of a stream of fixes whose senders send again what was not acknowledged. Each event
// is in the inbox once, and what was kept raises the same.
func TestKillNeitherLosesNorRepeatsAnEvent(t *testing.T) {
	r, seed := random(t)
	dir := t.TempDir()
	const trackers, fixes, rounds = 4, 300, 6
	sent := [trackers]int{} // how many of each tracker's fixes are acknowledged
	base := time.Now().Unix() - 10_000
	at := func(tracker, i int) string {
		return fmt.Sprintf(`{"lat":%g,"lon":11,"tst":%d}`, []float64{48, 49}[(i/(1+tracker))%2], base+int64(i))
	}
	var reloads atomic.Int64
	for round := range rounds {
		cmd, in, addr := brokerOf(t, dir)
		var acked atomic.Int64
		stop := int64(50 + r.IntN(150))
		if round == rounds-1 {
			stop = trackers * fixes
		}
		var all sync.WaitGroup
		for n := range trackers {
			all.Go(func() {
				c, err := client.Dial(t.Context(), client.Config{Address: addr, User: fmt.Sprint("u", n), Client: "gps", Version: mqtt.V5})
				if err != nil {
					return // it was killed before
				}
				defer c.Drop()
				for sent[n] < fixes && c.Publish(t.Context(), fmt.Sprintf("users/u%d/location", n), []byte(at(n, sent[n])), false) == nil {
					sent[n]++
					switch got := acked.Add(1); {
					case got == stop:
						_ = cmd.Process.Kill()
					case got%40 == 0:
						_, _ = io.WriteString(in, "reload\n")
						reloads.Add(1)
					}
				}
			})
		}
		all.Wait()
		if round == rounds-1 {
			checkInbox(t, addr, seed, trackers, fixes, at)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if reloads.Load() < 5 {
		t.Errorf("seed %d: %d reloads", seed, reloads.Load())
	}
}

// brokerOf starts a broker in a process of its own.
func brokerOf(t *testing.T, dir string) (*exec.Cmd, io.Writer, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GEOCAST_TEST_RULES="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) //nolint:errcheck // it has been killed already
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, in, strings.TrimSpace(addr)
}

// checkInbox compares the boss's inbox with what the fixes raise without any broker.
func checkInbox(t *testing.T, addr string, seed uint64, trackers, fixes int, at func(tracker, i int) string) {
	t.Helper()
	set, err := rules.Parse("rules.yaml", []byte(depot), nil)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for n := range trackers {
		var track []geo.Fix
		for i := range fixes {
			f, _, err := geo.DecodeFixes([]byte(at(n, i)), 0)
			if err != nil {
				t.Fatal(err)
			}
			f[0].Who, f[0].Tracker = fmt.Sprint("u", n), "gps"
			track = append(track, f[0])
		}
		for _, e := range rules.Test(set, crowd{}, track) {
			want = append(want, e.ID)
		}
	}
	got, seqs := make(chan string, 10*len(want)), 0
	c, err := client.Dial(t.Context(), client.Config{Address: addr, User: "boss", Client: "phone", Receive: func(m *mqtt.Message) {
		if seqs++; field(string(m.Payload), "seq") != fmt.Sprint(seqs) {
			t.Errorf("seed %d: event %d is %s", seed, seqs, m.Payload)
		}
		got <- field(string(m.Payload), "id")
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Drop()
	if err := c.Subscribe(t.Context(), "users/boss/inbox"); err != nil {
		t.Fatal(err)
	}
	var have []string
	for patience := 10 * time.Second; patience > 0; {
		if len(have) >= len(want) {
			patience = 100 * time.Millisecond // for what should not come
		}
		select {
		case id := <-got:
			have = append(have, id)
		case <-time.After(patience):
			patience = 0
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	if len(want) < 300 || !slices.Equal(have, want) {
		t.Errorf("seed %d: %d events, want %d; %d of them different ones", seed, len(have), len(want), len(slices.Compact(slices.Clone(have))))
	}
}
