package rules

import (
	"fmt"
	"math"
	"strconv"

	"github.com/geocast/geocast/geo"
)

// setFix makes the fix of this Step what conditions see.
func (e *Engine) setFix() {
	f := e.fix
	vel := orNaN(f.Vel, f.Has&geo.HasVel != 0)
	e.fields.Fix = fixFields{
		Lat: f.Lat, Lon: f.Lon, Acc: orNaN(f.Acc, f.Acc > 0), Tst: float64(f.Tst) / 1000, Event: f.Event,
		Alt: orNaN(f.Alt, f.Has&geo.HasAlt != 0), Vel: vel, Kmh: vel,
		Cog: orNaN(f.Cog, f.Has&geo.HasCog != 0), Batt: orNaN(f.Batt, f.Has&geo.HasBatt != 0),
	}
}

// measurements are the optional fields of a fix; what can't be one stays out.
var measurements = map[string]geo.Has{"alt": geo.HasAlt, "vel": geo.HasVel, "cog": geo.HasCog, "batt": geo.HasBatt}

// setField sets the field of a fix that a source's map names.
func setField(fix *geo.Fix, field string, value any) error {
	switch field {
	case "tst":
		return setTime(fix, value)
	case "event", "id", "who", "tracker":
		return setWord(fix, field, word(value))
	}
	n, ok := asNumber(value)
	if !ok || math.IsNaN(n) || math.IsInf(n, 0) {
		return fmt.Errorf("%s %v is not a number", field, value)
	}
	switch field {
	case "lat":
		fix.Lat = n
	case "lon":
		fix.Lon = n
	case "acc":
		if n < 0 || n > 2.1e7 {
			return fmt.Errorf("acc %v is not in metres", value)
		}
		fix.Acc = n
	default:
		fix.Measure(measurements[field], n)
	}
	return nil
}

// maxWord bounds the words of a fix, in bytes.
const maxWord = 128

// word is a value as a name: numbers without exponent, as devices write their ids.
func word(value any) string {
	if n, ok := value.(float64); ok {
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
	return fmt.Sprint(value)
}

func setWord(fix *geo.Fix, field, word string) error {
	if len(word) > maxWord {
		return fmt.Errorf("%s is longer than %d bytes", field, maxWord)
	}
	switch field {
	case "event":
		fix.Event = word
	case "id":
		fix.ID = word
	case "who":
		fix.Who = word
	case "tracker":
		fix.Tracker = word
	}
	return nil
}

// number writes v as it is read back exactly.
func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
