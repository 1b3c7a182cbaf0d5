package bench

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc/PID/stat: USER_HZ is 100 on all that Linux runs on.
const tick = 10 * time.Millisecond

// cpuOf is the CPU time of a process, 0 if it is not known.
func cpuOf(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if pid == 0 || err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	sys, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+sys) * tick
}

// usage is what a broker has used up to now.
type usage struct{ cpu, busy time.Duration }

func (t *Target) usage() usage {
	u := usage{cpu: cpuOf(t.PID)}
	if t.Busy != nil {
		u.busy = t.Busy()
	}
	return u
}

// charge notes in r what the broker has used since before.
func (t *Target) charge(r *Result, before usage) {
	now := t.usage()
	r.CPU, r.Busy = now.cpu-before.cpu, now.busy-before.busy
	_, r.RSS = memoryOf(t.PID)
}

// memoryOf is RssAnon and VmRSS of a process in bytes.
func memoryOf(pid int) (anon, rss int64) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if pid == 0 || err != nil {
		return 0, 0
	}
	defer f.Close() //nolint:errcheck // it was only read
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "RssAnon":
			anon = n << 10
		case "VmRSS":
			rss = n << 10
		}
	}
	return anon, rss
}
