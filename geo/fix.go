package geo

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// Has says which optional measurements a fix holds.
type Has uint8

// The optional measurements.
const (
	HasAlt Has = 1 << iota
	HasVel
	HasCog
	HasBatt
)

// Fix is one measured position of a tracker.
type Fix struct {
	Who, Tracker string
	Position
	// Acc is the accuracy in metres (68 % radius); 0 means exact or not said.
	Acc float64
	// Tst is when it was measured, Recv when it was received, in Unix
	// milliseconds.
	Tst, Recv int64
	// Alt is in metres, Vel in km/h, Cog in degrees, Batt in percent; see Has.
	Alt, Vel, Cog, Batt float64
	Has                 Has
	// Event is the report's own word, as sos or an OwnTracks transition's.
	Event string
	// ID is the report's own identifier, empty for none.
	ID string
	// App is what an OwnTracks message says beside; nil for other formats. It is for
	// who is told now, and not kept.
	App *OwnTracks
}

// Measure notes one optional measurement, unless it can't be one: a phone that does
// not know its speed or course says -1. It reports whether it did.
func (f *Fix) Measure(what Has, v float64) bool {
	into, least, most := &f.Alt, -12_000.0, 1e9
	switch what {
	case HasVel:
		into, least, most = &f.Vel, 0, 1e6
	case HasCog:
		into, least, most = &f.Cog, 0, 360
	case HasBatt:
		into, least, most = &f.Batt, 0, 100
	}
	if !(v >= least && v <= most) {
		return false
	}
	*into, f.Has = v, f.Has|what
	return true
}

// Rejection says why one report of a payload was not taken.
type Rejection struct {
	Index  int // its place in the payload's array, from 0
	Reason string
}

// ErrPayload is returned for a payload that is in none of the formats.
var ErrPayload = errors.New("geo: the payload is neither JSON nor CBOR of a fix")

// ErrEmpty is returned for an array without any report.
var ErrEmpty = errors.New("geo: the payload is an empty array; it holds no fix")

// ErrTooMany is returned for a payload of more than MaxFixes reports.
var ErrTooMany = fmt.Errorf("geo: the payload has more than %d reports; send them in parts", MaxFixes)

// MaxFixes bounds the reports of one payload: a week of them every ten minutes. What
// one payload raises is one step of the broker, which others wait for.
const MaxFixes = 1000

// maxWord bounds a report's own words, in bytes: they are kept with each fix.
const maxWord = 128

// report has the fields of all formats: OwnTracks JSON, plain JSON and CBOR with
// the same names, and GeoJSON Feature.
type report struct {
	Kind      string          `json:"_type"`
	Lat       *float64        `json:"lat"`
	Lon       *float64        `json:"lon"`
	Tst       *float64        `json:"tst"`
	Acc       *float64        `json:"acc"`
	Alt       *float64        `json:"alt"`
	Vel       *float64        `json:"vel"`
	Cog       *float64        `json:"cog"`
	Batt      *float64        `json:"batt"`
	Event     string          `json:"event"`
	ID        string          `json:"_id"`
	Type      string          `json:"type"`
	Geometry  json.RawMessage `json:"geometry"`
	Props     json.RawMessage `json:"properties"`
	Tracker   string          `json:"tracker"`
	CreatedAt *float64        `json:"created_at"`
}

// DecodeFixes reads a payload of one report or an array of them, in OwnTracks
// JSON, plain JSON, GeoJSON or CBOR. now is the core's time (Unix ms): a plain
// report without tst is of now. A bad report is rejected with its reason and the
// others are kept; an OwnTracks message without a position (lwt, card, …) is
// neither. Of a name that stands twice in a report the last one counts. It fails with
// ErrPayload if the payload can't be read at all, with ErrEmpty or with ErrTooMany.
func DecodeFixes(payload []byte, now int64) ([]Fix, []Rejection, error) {
	reports, err := reports(payload)
	if err != nil {
		return nil, nil, err
	}
	var fixes []Fix
	var bad []Rejection
	for i, r := range reports {
		if r.err == "" && r.silent() {
			continue
		}
		f, why := r.fix(now)
		if why != "" {
			bad = append(bad, Rejection{i, why})
			continue
		}
		fixes = append(fixes, f)
	}
	return fixes, bad, nil
}

// read is a report, or why it can't be read.
type read struct {
	report
	app *OwnTracks
	err string
}

func reports(b []byte) ([]read, error) {
	i := 0
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	switch {
	case i == len(b):
		return nil, ErrPayload
	case b[i] == '{':
		return one(b, json.Unmarshal)
	case b[i] == '[':
		return many[json.RawMessage](b, json.Unmarshal)
	case b[0]>>5 == 5: // a CBOR map
		return one(b, cbor.Unmarshal)
	case b[0]>>5 == 4: // a CBOR array
		return many[cbor.RawMessage](b, cbor.Unmarshal)
	}
	return nil, ErrPayload
}

func one(b []byte, unmarshal func([]byte, any) error) ([]read, error) {
	var r read
	if err := r.unmarshal(b, unmarshal); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrPayload, misread(err))
	}
	return []read{r}, nil
}

func many[R ~[]byte](b []byte, unmarshal func([]byte, any) error) ([]read, error) {
	var raw []R
	if err := unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	switch {
	case len(raw) == 0:
		return nil, ErrEmpty
	case len(raw) > MaxFixes:
		return nil, ErrTooMany
	}
	rs := make([]read, len(raw))
	for i, m := range raw {
		if err := rs[i].unmarshal(m, unmarshal); err != nil {
			rs[i].err = "not a report: " + misread(err)
		}
	}
	return rs, nil
}

// misread says of a field what was wanted in its place, in words of the sender's: they
// go out as the reason of a refusal.
func misread(err error) string {
	var inJSON *json.UnmarshalTypeError
	var inCBOR *cbor.UnmarshalTypeError
	field, wanted, got := "", "", ""
	switch {
	case errors.As(err, &inJSON):
		field, wanted, got = inJSON.Field, inJSON.Type.Kind().String(), inJSON.Value
	case errors.As(err, &inCBOR):
		field, wanted, got = inCBOR.StructFieldName, inCBOR.GoType, inCBOR.CBORType
	default:
		return err.Error()
	}
	switch field = field[strings.LastIndexByte(field, '.')+1:]; {
	case field == "":
		return fmt.Sprintf("an object is wanted, not %.40s", got)
	case wanted == "float64":
		return fmt.Sprintf("%s: a number is wanted, not %.40s", field, got)
	case wanted == "string":
		return fmt.Sprintf("%s: a text is wanted, not %.40s", field, got)
	}
	return fmt.Sprintf("%s: not %.40s", field, got)
}

// silent reports whether it is an OwnTracks message that has no position of the
// tracker: a waypoint's is that of a region, and only a location must have one.
func (r *report) silent() bool {
	switch r.Kind {
	case "", "location", "encrypted":
		return false
	case "waypoint":
		return true
	}
	return r.Lat == nil && r.Lon == nil
}

func (r *read) fix(now int64) (f Fix, why string) {
	if r.err != "" {
		return f, r.err
	}
	if r.Type == "Feature" {
		if why := r.feature(); why != "" {
			return f, why
		}
	}
	if why := r.refused(); why != "" {
		return f, why
	}
	f = Fix{Position: Position{*r.Lat, *r.Lon}, Tst: now, Recv: now, Event: r.Event, ID: r.ID, Tracker: r.Tracker, App: r.app}
	if r.Tst != nil {
		f.Tst = int64(math.Round(*r.Tst * 1000))
	}
	if r.Acc != nil {
		f.Acc = *r.Acc
	}
	r.measurements(&f)
	return f, ""
}

// refused says what makes a report none, empty for nothing.
func (r *report) refused() (why string) {
	switch {
	case r.Kind == "encrypted":
		return "an encrypted payload can't be read; switch encryption off in the app, and use TLS"
	case r.Lat == nil || r.Lon == nil:
		return "lat and lon are needed, in degrees" + r.collection()
	case !(Position{*r.Lat, *r.Lon}).Valid():
		return fmt.Sprintf("lat %g, lon %g is out of range (latitude is -90..90)", *r.Lat, *r.Lon)
	case r.Tst == nil && r.Kind != "":
		return "tst is needed, in Unix seconds"
	case r.Tst != nil && !(*r.Tst >= 1 && *r.Tst < maxTst):
		return fmt.Sprintf("tst %.15g is not in Unix seconds%s", *r.Tst, milliseconds(*r.Tst))
	case r.Acc != nil && !(*r.Acc >= 0 && *r.Acc <= maxAcc):
		return fmt.Sprintf("acc %g is not in metres", *r.Acc)
	case r.Tracker != "" && !ValidName(r.Tracker):
		return fmt.Sprintf("%.128q can't be a tracker", r.Tracker)
	case len(r.Event) > maxWord || len(r.ID) > maxWord:
		return fmt.Sprintf("event or _id is longer than %d bytes", maxWord)
	}
	return ""
}

const (
	maxTst = 1e11  // seconds; milliseconds of today are more
	maxAcc = 2.1e7 // metres: half of the earth's circumference is less
)

// milliseconds is a hint at the unit of a time.
func milliseconds(tst float64) string {
	if tst >= maxTst && tst < maxTst*1000 {
		return "; it looks like milliseconds"
	}
	return ""
}

// collection is a hint for GeoJSON that is not a Feature.
func (r *report) collection() string {
	switch r.Type {
	case "FeatureCollection":
		return "; send the features of a FeatureCollection as an array"
	case "Point":
		return "; wrap the Point into a Feature"
	}
	return ""
}

func (r *report) measurements(f *Fix) {
	for _, m := range [...]struct {
		has  Has
		from *float64
	}{{HasAlt, r.Alt}, {HasVel, r.Vel}, {HasCog, r.Cog}, {HasBatt, r.Batt}} {
		if m.from != nil {
			f.Measure(m.has, *m.from)
		}
	}
}

// feature takes a GeoJSON Point and its properties over into the report.
func (r *report) feature() (why string) {
	var g struct {
		Type        string     `json:"type"`
		Coordinates []*float64 `json:"coordinates"`
	}
	if json.Unmarshal(r.Geometry, &g) != nil || g.Type != "Point" || len(g.Coordinates) < 2 || slices.Contains(g.Coordinates, nil) {
		return "the feature's geometry is not a Point of [lon, lat]"
	}
	if len(r.Props) > 0 && string(r.Props) != "null" {
		var p report
		if err := json.Unmarshal(r.Props, &p); err != nil {
			return "the feature's properties: " + misread(err)
		}
		*r = p
	}
	r.Kind, r.Lon, r.Lat = "", g.Coordinates[0], g.Coordinates[1]
	if len(g.Coordinates) > 2 && r.Alt == nil {
		r.Alt = g.Coordinates[2]
	}
	return ""
}

// AppendJSON appends the fix as a location that subscribers get: tst is in
// seconds; ts is the core's time in milliseconds; via, if not empty, is the
// gateway that published it.
func (f *Fix) AppendJSON(dst []byte, ts int64, via string) []byte {
	dst = appendQuoted(append(dst, `{"v":1,"who":`...), f.Who)
	dst = appendQuoted(append(dst, `,"tracker":`...), f.Tracker)
	dst = appendNumber(append(dst, `,"lat":`...), f.Lat)
	dst = appendNumber(append(dst, `,"lon":`...), f.Lon)
	if f.Acc > 0 {
		dst = appendNumber(append(dst, `,"acc":`...), f.Acc)
	}
	dst = appendNumber(append(dst, `,"tst":`...), float64(f.Tst)/1000)
	for _, m := range f.optional() {
		if f.Has&m.has != 0 {
			dst = appendNumber(append(dst, m.name...), m.v)
		}
	}
	if via != "" {
		dst = appendQuoted(append(dst, `,"via":`...), via)
	}
	return append(strconv.AppendInt(append(dst, `,"ts":`...), ts, 10), '}')
}

// named is an optional measurement as it stands in JSON.
type named struct {
	name string
	has  Has
	v    float64
}

func (f *Fix) optional() [4]named {
	return [4]named{{`,"alt":`, HasAlt, f.Alt}, {`,"vel":`, HasVel, f.Vel}, {`,"cog":`, HasCog, f.Cog}, {`,"batt":`, HasBatt, f.Batt}}
}

func appendNumber(dst []byte, v float64) []byte { return strconv.AppendFloat(dst, v, 'f', -1, 64) }

func appendQuoted(dst []byte, s string) []byte {
	b, _ := json.Marshal(s) // a string can always be marshalled
	return append(dst, b...)
}
