package broker_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// seeded returns a data folder with n offline sessions and messages for each.
func seeded(t testing.TB, n, queued int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	st, _, err := store.Open(dir, store.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.Seed(st, n, queued, "devices"); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rssAnon is a process's anonymous memory in bytes.
func rssAnon(t testing.TB, pid int) (n int64) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip("memory is read from /proc")
	}
	defer f.Close() //nolint:errcheck // it was only read
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "RssAnon:"); ok {
			fmt.Sscan(v, &n) //nolint:errcheck // 0 then
		}
	}
	return n << 10
}

// scale is the number in an environment variable, by which `make bench-full` asks for
// more than the default.
func scale(name string, n int) int {
	fmt.Sscan(os.Getenv(name), &n) //nolint:errcheck // the default then
	return n
}

// back is a seeded client's return.
func back(t testing.TB, addr net.Addr, i int) *client {
	t.Helper()
	c := dial(t, addr, mqtt.V5)
	if a := c.connect(broker.SeededClient(i), func(p *mqtt.Connect) { p.CleanStart, p.SessionExpiry = false, mqtt.NeverExpires }); !a.SessionPresent {
		t.Fatalf("session %d is not there", i)
	}
	return c
}

// What a start with GEOCAST_BENCH_SESSIONS offline sessions takes, and the memory of
// each of them.
func BenchmarkStartWithSessions(b *testing.B) {
	n := scale("GEOCAST_BENCH_SESSIONS", 10_000)
	dir := seeded(b, n, 0)
	empty, _ := child(b, b.TempDir())
	base := rssAnon(b, empty.Process.Pid)
	for b.Loop() {
		begin := time.Now()
		cmd, addr := child(b, dir)
		back(b, addr, n/2)
		b.ReportMetric(time.Since(begin).Seconds(), "s/start")
		b.ReportMetric(float64(rssAnon(b, cmd.Process.Pid)-base)/float64(n), "B/session")
		cmd.Process.Kill() //nolint:errcheck // the next one opens the store
		cmd.Wait()         //nolint:errcheck // it was killed
	}
}

// How long a start with GEOCAST_BENCH_QUEUED messages in the queues of 1,000 sessions
// takes to its first delivery, and then to that of all of one session.
func BenchmarkStartWithQueues(b *testing.B) {
	const sessions = 1000
	each := scale("GEOCAST_BENCH_QUEUED", 10_000) / sessions
	dir := seeded(b, sessions, each)
	for b.Loop() {
		begin := time.Now()
		cmd, addr := child(b, dir)
		c := back(b, addr, sessions/2)
		m := c.message()
		b.ReportMetric(time.Since(begin).Seconds(), "s/first-delivery")
		for range each - 1 {
			c.ack(mqtt.PUBACK, m.ID)
			m = c.message()
		}
		b.ReportMetric(time.Since(begin).Seconds(), "s/one-queue")
		cmd.Process.Kill() //nolint:errcheck // the next one opens the store
		cmd.Wait()         //nolint:errcheck // it was killed
	}
}

// A start with sessions and queues that another process left: what is seeded is what
// a broker reads.
func TestStartWithSeededSessions(t *testing.T) {
	const n, queued = 50, 20
	_, addr := start(t, broker.Config{Data: seeded(t, n, queued)})
	for i := range n {
		c := back(t, addr, i)
		for range queued {
			if m := c.message(); string(m.Topic) != broker.SeededFilter("devices", i) || len(m.Payload) != 200 {
				t.Fatalf("session %d got %d bytes on %s", i, len(m.Payload), m.Topic)
			} else {
				c.ack(mqtt.PUBACK, m.ID)
			}
		}
	}
}
