package broker_test

import (
	"bufio"
	"fmt"
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

// What a start with many offline sessions takes: GEOCAST_BENCH_SESSIONS of them,
// 1,000,000 in `make bench-full`.
func BenchmarkStartWithSessions(b *testing.B) {
	n := 10_000
	fmt.Sscan(os.Getenv("GEOCAST_BENCH_SESSIONS"), &n) //nolint:errcheck // the default then
	dir := seeded(b, n, 0)
	empty, _ := child(b, b.TempDir())
	base := rssAnon(b, empty.Process.Pid)
	for b.Loop() {
		begin := time.Now()
		cmd, addr := child(b, dir)
		c := dial(b, addr, mqtt.V5)
		if a := c.connect(broker.SeededClient(n/2), func(p *mqtt.Connect) { p.CleanStart, p.SessionExpiry = false, mqtt.NeverExpires }); !a.SessionPresent {
			b.Fatal("the session is not there")
		}
		b.ReportMetric(time.Since(begin).Seconds(), "s/start")
		time.Sleep(2 * time.Second)
		b.ReportMetric(float64(rssAnon(b, cmd.Process.Pid)-base)/float64(n), "B/session")
		cmd.Process.Kill() //nolint:errcheck // the next one opens the store
		cmd.Wait()         //nolint:errcheck // it was killed
	}
}
