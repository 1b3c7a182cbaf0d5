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
	r.RSS = Memory(t.PID).RSS
}

// Settle waits until the broker has used next to no CPU for quiet, or at most for a
// time. Took is until it came to rest.
func (t *Target) Settle(quiet, most time.Duration) (r Result) {
	began, before := time.Now(), cpuOf(t.PID)
	busy, last := began, before
	for time.Since(began) < most && time.Since(busy) < quiet {
		time.Sleep(100 * time.Millisecond)
		now := cpuOf(t.PID)
		if now-last > tick {
			busy = time.Now()
		}
		last = now
	}
	r.Took, r.CPU = busy.Sub(began), last-before
	return r
}

// Usage is a process's resident memory, in bytes.
type Usage struct {
	Anon, Shmem int64 // of its own, and shared without a file
	RSS         int64 // all, with the pages of files
}

// Held is what nobody but the process holds: its own and shared memory, without the
// pages of files.
func (u Usage) Held() int64 { return u.Anon + u.Shmem }

// Memory reads what a process has resident; all of it is 0 if that is not known.
func Memory(pid int) (u Usage) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if pid == 0 || err != nil {
		return u
	}
	defer f.Close() //nolint:errcheck // it was only read
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "RssAnon":
			u.Anon = n << 10
		case "RssShmem":
			u.Shmem = n << 10
		case "VmRSS":
			u.RSS = n << 10
		}
	}
	return u
}
