package rules

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/regular"
)

var (
	zoneWords   = []string{"circle", "polygon", "holes", "file", "tags"}
	zoneLater   = []string{"line", "width", "cap", "box", "union", "at", "hysteresis", "edges", "ttl", "expires"}
	circleWords = []string{"lat", "lon", "radius"}
)

// zone reads one entry of `zones`: one zone, or all of a GeoJSON file.
func (l *loader) zone(d *document, name entry, fsys fs.FS) {
	if !geo.ValidName(name.key) {
		d.fault(name.at, "%q can't be a zone's name: 1 to 128 bytes, no space, / + # or control character, not beginning with $", name.key)
	}
	if first, again := l.zoneAt[name.key]; again {
		d.fault(name.at, "zone %q stands already in %s", name.key, first)
		return
	}
	l.zoneAt[name.key] = d.name
	l.broken[name.key] = true
	entries, ok := d.mapping(name.value, "zone "+name.key)
	if !ok {
		return
	}
	before := len(d.faults)
	zones := d.shapes(name, entries, fsys)
	tags := d.tags(entries)
	if len(d.faults) > before {
		return
	}
	delete(l.broken, name.key)
	for _, z := range zones {
		z.Tags = append(tags[:len(tags):len(tags)], z.Tags...)
		at := len(l.zones)
		l.zones = append(l.zones, z)
		l.zoneKeys = append(l.zoneKeys, zoneKey(&z))
		l.zoneIDs[name.key] = append(l.zoneIDs[name.key], at)
		if z.ID != name.key {
			l.zoneIDs[z.ID] = append(l.zoneIDs[z.ID], at)
		}
	}
}

// shapes reads the one shape of a zone, or the many of a file.
func (d *document) shapes(name entry, entries []entry, fsys fs.FS) []geo.Zone {
	var zones []geo.Zone
	shape, unknown := "", false
	for _, e := range entries {
		switch e.key {
		case "circle", "polygon", "file":
			if shape != "" {
				d.fault(e.at, "zone %s has two shapes, %s and %s; write two zones", name.key, shape, e.key)
				continue
			}
			shape = e.key
			zones = d.shape(name.key, e, entries, fsys)
		case "holes":
			if !has(entries, "polygon") {
				d.fault(e.at, "holes belong to a polygon")
			}
		case "tags":
		default:
			unknown = true
			d.unknown(e, "a zone", zoneWords, zoneLater)
		}
	}
	if shape == "" && !unknown {
		d.fault(name.at, "zone %s has no shape; give it a circle, a polygon or a file", name.key)
	}
	return zones
}

func (d *document) shape(id string, e entry, entries []entry, fsys fs.FS) []geo.Zone {
	switch e.key {
	case "circle":
		return d.circle(id, e.value)
	case "polygon":
		return d.polygon(id, e.value, entries)
	}
	return d.geoJSON(id, e.value, fsys)
}

func (d *document) circle(id string, n ast.Node) []geo.Zone {
	var c geo.Circle
	entries, ok := d.mapping(n, "circle")
	if !ok {
		return nil
	}
	for _, e := range entries {
		switch e.key {
		case "lat":
			c.Center.Lat = d.degrees(e.value, "lat", 90)
		case "lon":
			c.Center.Lon = d.degrees(e.value, "lon", 180)
		case "radius":
			c.Radius = d.length(e.value, "radius")
		default:
			d.unknown(e, "circle", circleWords, nil)
		}
	}
	for _, word := range circleWords {
		if !has(entries, word) {
			d.fault(n, "circle has no %s; write circle: {lat: 48.137, lon: 11.575, radius: 300m}", word)
		}
	}
	return []geo.Zone{{ID: id, Shape: c}}
}

// degrees reads a coordinate of at most limit to either side.
func (d *document) degrees(n ast.Node, what string, limit float64) float64 {
	v, ok := d.number(n, what)
	if ok && !(v >= -limit && v <= limit) {
		hint := ""
		if limit == 90 && v >= -180 && v <= 180 {
			hint = "; latitude comes before longitude"
		}
		d.fault(n, "%s %g is out of range, -%g to %g%s", what, v, limit, limit, hint)
	}
	return v
}

func (d *document) polygon(id string, n ast.Node, entries []entry) []geo.Zone {
	before := len(d.faults)
	outer := d.ring(n, "polygon")
	var holes [][]geo.Position
	for _, e := range entries {
		if e.key != "holes" {
			continue
		}
		rings, _ := d.sequence(e.value, "holes")
		for _, r := range rings {
			holes = append(holes, d.ring(r, "a hole"))
		}
	}
	if len(d.faults) > before {
		return nil
	}
	p, err := geo.NewPolygon(outer, holes...)
	if err != nil {
		d.fault(n, "polygon: %s", strings.Replace(err.Error(), "geo: ", "", 1))
		return nil
	}
	return []geo.Zone{{ID: id, Shape: p}}
}

// ring reads [[lat, lon], …]; the first point may be repeated at the end.
func (d *document) ring(n ast.Node, what string) []geo.Position {
	points, ok := d.sequence(n, what)
	if !ok {
		return nil
	}
	ring := make([]geo.Position, 0, len(points))
	for _, p := range points {
		pair, ok := p.(*ast.SequenceNode)
		if !ok || len(pair.Values) != 2 {
			d.fault(p, "a point is [lat, lon]")
			continue
		}
		ring = append(ring, geo.Position{Lat: d.degrees(pair.Values[0], "lat", 90), Lon: d.degrees(pair.Values[1], "lon", 180)})
	}
	if n := len(ring); n > 1 && ring[0] == ring[n-1] {
		ring = ring[:n-1]
	}
	if len(ring) < 3 && len(ring) == len(points) {
		d.fault(n, "%s has %d points; it needs 3 or more", what, len(ring))
	}
	return ring
}

// geoJSON reads the zones of a file beside this one.
func (d *document) geoJSON(id string, n ast.Node, fsys fs.FS) []geo.Zone {
	name, ok := d.text(n, "file")
	if !ok {
		return nil
	}
	if clean := path.Clean(strings.ReplaceAll(name, `\`, "/")); fsys == nil || !fs.ValidPath(clean) {
		d.fault(n, "file %q: must lie in or below the folder of the rules file", name)
		return nil
	}
	text, err := regular.ReadFS(fsys, path.Clean(name))
	if err != nil {
		d.fault(n, "file %q can't be read: %v", name, reason(err))
		return nil
	}
	zones, err := geo.ParseGeoJSON(text)
	if err != nil {
		d.fault(n, "file %q: %s", name, strings.Replace(err.Error(), "geo: ", "", 1))
		return nil
	}
	if len(zones) == 0 {
		d.fault(n, "file %q has no area", name)
	}
	return d.featureNames(id, name, n, zones)
}

// featureNames calls the zones of a file id/feature, or id if there is one only.
func (d *document) featureNames(id, name string, n ast.Node, zones []geo.Zone) []geo.Zone {
	if len(zones) == 1 {
		zones[0].ID = id
		return zones
	}
	seen := map[string]bool{}
	for i := range zones {
		feature := zones[i].ID
		if feature == "" {
			feature = fmt.Sprint(i + 1)
		}
		if seen[feature] {
			d.fault(n, "file %q: two features are called %q", name, feature)
		}
		seen[feature] = true
		zones[i].ID = id + "/" + feature
	}
	return zones
}

// reason is what went wrong with a file, without its name.
func reason(err error) error {
	if e := new(fs.PathError); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// tags reads the tags of a zone.
func (d *document) tags(entries []entry) []string {
	var tags []string
	for _, e := range entries {
		if e.key != "tags" {
			continue
		}
		items, _ := d.sequence(e.value, "tags")
		for _, item := range items {
			tags = append(tags, d.name128(item, "a tag")...)
		}
	}
	return tags
}

// zoneKey is a hash of id and shape: a tracker's being inside is kept as long as it stays the same.
func zoneKey(z *geo.Zone) uint64 {
	return hash64(z.Append(appendNames(nil, z.ID)))
}
