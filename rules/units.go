package rules

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

var lengthUnits = []struct {
	name   string
	metres float64
}{{"km", 1000}, {"mi", 1609.344}, {"ft", 0.3048}, {"m", 1}}

// maxLength is half of the earth's circumference: nothing is further away.
const maxLength = 20_037_500

// parseLength reads a length such as 300m, 1.5km, 2mi or 80ft, in metres.
func parseLength(s string) (float64, error) {
	s = strings.TrimSpace(s)
	for _, u := range lengthUnits {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%q is not a length; write for example 300m or 1.5km", s)
		case !(n > 0) || n*u.metres > maxLength:
			return 0, fmt.Errorf("%q is out of range; a length is more than 0 and at most 20037km", s)
		}
		return n * u.metres, nil
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, fmt.Errorf("%s has no unit; did you mean %s? (m, km, mi and ft are known)", s, s+"m")
	}
	return 0, fmt.Errorf("%q is not a length; write for example 300m or 1.5km (m, km, mi and ft are known)", s)
}

// parsePeriod reads a period such as 30s, 10m, 1h30m or 2d.
func parsePeriod(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 36500 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, fmt.Errorf("%s has no unit; write for example %ss, %sm or %sh", s, s, s, s)
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a period; write for example 30s, 10m, 1h30m or 2d", s)
	}
	if d <= 0 {
		return 0, fmt.Errorf("%q is out of range; a period is more than 0", s)
	}
	return d, nil
}
