package geo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrGeoJSON is returned for text that is no GeoJSON of areas.
var ErrGeoJSON = errors.New("geo: not GeoJSON")

type object struct {
	Type        string          `json:"type"`
	ID          any             `json:"id"`
	Features    []object        `json:"features"`
	Geometry    *object         `json:"geometry"`
	Geometries  []object        `json:"geometries"`
	Coordinates json.RawMessage `json:"coordinates"`
	Properties  map[string]any  `json:"properties"`
}

// ParseGeoJSON reads the areas of a GeoJSON text (RFC 7946): a geometry, a Feature
// or a FeatureCollection, of Polygon and MultiPolygon; other geometries are left
// out. Published data has specks where a ring
// crosses itself: unlike NewPolygon this takes them, by the even-odd rule. A zone's ID is the feature's property id, name or NAME, or its id, else empty;
// its Tags are the property tags. Rings may turn either way.
func ParseGeoJSON(text []byte) ([]Zone, error) {
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, fmt.Errorf("%w: %s%w", ErrGeoJSON, placeOf(text, err), err)
	}
	switch o.Type {
	case "FeatureCollection":
		var zones []Zone
		for i := range o.Features {
			z, ok, err := o.Features[i].zone()
			if err != nil {
				return nil, fmt.Errorf("feature %d: %w", i+1, err)
			}
			if ok {
				zones = append(zones, z)
			}
		}
		return zones, nil
	case "Feature", "Polygon", "MultiPolygon", "GeometryCollection":
		z, ok, err := o.zone()
		if err != nil || !ok {
			return nil, err
		}
		return []Zone{z}, nil
	}
	return nil, fmt.Errorf("%w: type %q is not of an area", ErrGeoJSON, o.Type)
}

// placeOf says in which line and column, in bytes, a text is no JSON.
func placeOf(text []byte, err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var read int64 // the last of these bytes is the wrong one
	switch {
	case errors.As(err, &syntax):
		read = syntax.Offset
	case errors.As(err, &kind):
		read = kind.Offset
	}
	if read <= 0 || read > int64(len(text)) {
		return ""
	}
	before := text[:read-1]
	return fmt.Sprintf("line %d, column %d: ", bytes.Count(before, []byte("\n"))+1, len(before)-bytes.LastIndexByte(before, '\n'))
}

func (o *object) zone() (z Zone, ok bool, err error) {
	g := o
	if o.Type == "Feature" {
		g = o.Geometry
		z.ID, z.Tags = o.name(), o.tags()
	}
	if g == nil {
		return z, false, nil
	}
	polygons, err := g.polygons()
	switch {
	case err != nil || len(polygons) == 0:
		return z, false, err
	case len(polygons) == 1:
		z.Shape = polygons[0]
	default:
		z.Shape = MultiPolygon(polygons)
	}
	return z, true, nil
}

func (o *object) name() string {
	for _, v := range []any{o.Properties["id"], o.Properties["name"], o.Properties["NAME"], o.ID} { // capitals are those of shapefiles
		switch v := v.(type) {
		case string:
			return v
		case float64:
			return fmt.Sprint(v)
		}
	}
	return ""
}

func (o *object) tags() (tags []string) {
	list, _ := o.Properties["tags"].([]any)
	for _, t := range list {
		if s, ok := t.(string); ok {
			tags = append(tags, s)
		}
	}
	return tags
}

func (o *object) polygons() ([]*Polygon, error) {
	var parts [][][][]float64
	if bytes.Contains(o.Coordinates, []byte("null")) { // which would be read as 0
		return nil, fmt.Errorf("%w: a coordinate is null", ErrGeoJSON)
	}
	switch o.Type {
	case "Polygon":
		var rings [][][]float64
		if err := json.Unmarshal(o.Coordinates, &rings); err != nil {
			return nil, fmt.Errorf("%w: coordinates: %w", ErrGeoJSON, err)
		}
		parts = append(parts, rings)
	case "MultiPolygon":
		if err := json.Unmarshal(o.Coordinates, &parts); err != nil {
			return nil, fmt.Errorf("%w: coordinates: %w", ErrGeoJSON, err)
		}
	case "GeometryCollection":
		var all []*Polygon
		for i := range o.Geometries {
			p, err := o.Geometries[i].polygons()
			if err != nil {
				return nil, err
			}
			all = append(all, p...)
		}
		return all, nil
	}
	polygons := make([]*Polygon, 0, len(parts))
	for i, rings := range parts {
		p, err := polygonOf(rings)
		if err != nil {
			return nil, fmt.Errorf("polygon %d: %w", i+1, err)
		}
		polygons = append(polygons, p)
	}
	return polygons, nil
}

func polygonOf(rings [][][]float64) (*Polygon, error) {
	if len(rings) == 0 {
		return nil, ErrFewPoints
	}
	out := make([][]Position, len(rings))
	for i, ring := range rings {
		for _, c := range ring {
			if len(c) < 2 {
				return nil, fmt.Errorf("%w: a position is [lon, lat]", ErrGeoJSON)
			}
			out[i] = append(out[i], Position{Lat: c[1], Lon: c[0]})
		}
	}
	return newPolygon(out[0], out[1:])
}
