package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseSize reads a number of bytes with a unit: 512MB, 64 KB, 2GB; the units are
// powers of 1,024.
func parseSize(s string) (int64, error) {
	text := strings.ToUpper(strings.TrimSpace(s))
	for unit, shift := range map[string]int{"KB": 10, "MB": 20, "GB": 30, "TB": 40} {
		if n, ok := strings.CutSuffix(text, unit); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
			if err != nil || !(v >= 0 && v <= 1<<20) {
				return 0, fmt.Errorf("%q is no size; write it like 512MB or 2GB", s)
			}
			return int64(v * float64(int64(1)<<shift)), nil
		}
	}
	if n, err := strconv.ParseInt(strings.TrimSuffix(text, "B"), 10, 64); err == nil && strings.HasSuffix(text, "B") && n >= 0 {
		return n, nil
	}
	return 0, fmt.Errorf("%q is no size; write it with a unit, like 512MB or 2GB", s)
}

// parseSpan reads a duration: 250ms, 10s, 5m, 12h, 30d.
func parseSpan(s string) (time.Duration, error) {
	text := strings.TrimSpace(s)
	if n, ok := strings.CutSuffix(text, "d"); ok {
		if v, err := strconv.ParseFloat(n, 64); err == nil && v >= 0 && v < 36500 {
			return time.Duration(v * 24 * float64(time.Hour)), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	return 0, fmt.Errorf("%q is no duration; write it with a unit, like 10s, 5m, 12h or 30d", s)
}

// showSize is the inverse of parseSize, in the largest unit that fits.
func showSize(n int64) string {
	for _, u := range []struct {
		name  string
		shift int
	}{{"TB", 40}, {"GB", 30}, {"MB", 20}, {"KB", 10}} {
		if n != 0 && n%(1<<u.shift) == 0 {
			return fmt.Sprint(n>>u.shift, u.name)
		}
	}
	return fmt.Sprint(n, "B")
}

// showSpan is the inverse of parseSpan.
func showSpan(d time.Duration) string {
	if d != 0 && d%(24*time.Hour) == 0 {
		return fmt.Sprint(int(d/(24*time.Hour)), "d")
	}
	return d.String()
}
