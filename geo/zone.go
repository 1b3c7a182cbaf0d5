package geo

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Shape is an area. Its methods may be called concurrently.
type Shape interface {
	// Contains reports whether p is in the area; its edge belongs to it.
	Contains(p Position) bool
	// Distance is how far p is from the area, in metres; 0 inside.
	Distance(p Position) float64
	// Bounds are boxes that hold the area; none crosses 180°.
	Bounds() []Box
	// Append appends what the area is, in binary: areas of the same kind and
	// coordinates give the same bytes, others never do.
	Append(dst []byte) []byte
}

// Zone is a named area; its Shape is exact. ID is unique in a Set, Tags are in any
// order. It is a value that is not changed once an index holds it.
type Zone struct {
	ID   string
	Tags []string
	Shape
}

// Circle is all within Radius metres of Center, by the geodesic.
type Circle struct {
	Center Position
	Radius float64
}

var _ Shape = Circle{}

// Contains reports whether p is at most Radius from Center.
func (c Circle) Contains(p Position) bool { return Distance(c.Center, p) <= c.Radius }

// Distance is how far p is outside of the circle.
func (c Circle) Distance(p Position) float64 { return max(0, Distance(c.Center, p)-c.Radius) }

// Bounds are boxes around the circle.
func (c Circle) Bounds() []Box { return around(Box{c.Center, c.Center}, c.Radius) }

// Append appends the circle's identity.
func (c Circle) Append(dst []byte) []byte {
	return appendFloats(append(dst, 'c'), c.Center.Lat, c.Center.Lon, c.Radius)
}

func appendFloats(dst []byte, values ...float64) []byte {
	for _, v := range values {
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst
}

// Polygon is an area with straight edges on the plane of longitude and latitude
// (RFC 7946 3.1.1), without its holes. Make one with NewPolygon.
type Polygon struct {
	outer []Position // in the polygon's own longitudes, which may leave -180..180
	holes [][]Position
	west  float64
	east  float64
}

var _ Shape = (*Polygon)(nil)

// Errors of NewPolygon; the text says what is wrong and where.
var (
	ErrFewPoints  = errors.New("geo: a ring has at least three different points")
	ErrPosition   = errors.New("geo: a position is out of range")
	ErrCrossing   = errors.New("geo: the ring crosses itself")
	ErrNoArea     = errors.New("geo: the points of the ring lie on a line")
	ErrIntricate  = errors.New("geo: the ring is too intricate to be checked; write it as GeoJSON, whose rings are taken as they are")
	ErrHole       = errors.New("geo: the hole is not inside the polygon")
	ErrAroundPole = errors.New("geo: the ring goes around a pole; cut it along 180° and the pole, as GeoJSON does")
)

// NewPolygon makes a polygon of its outer ring and its holes, which may be closed
// or not, and turn either way. An edge that would be longer than 180° goes the
// short way, over 180°.
func NewPolygon(outer []Position, holes ...[]Position) (*Polygon, error) {
	for i, r := range append([][]Position{outer}, holes...) {
		u, err := unwrap(r)
		if err == nil {
			err = cmp.Or(flat(u), crossing(u))
		}
		if err != nil && i > 0 {
			err = fmt.Errorf("hole %d: %w", i, err)
		}
		if err != nil {
			return nil, err
		}
	}
	p, err := newPolygon(outer, holes)
	if err != nil {
		return nil, err
	}
	for i, h := range p.holes {
		if len(h)*len(p.outer) > maxLooks {
			return nil, fmt.Errorf("hole %d: %w", i+1, ErrIntricate)
		}
		for _, v := range h {
			if in, _ := inRing(p.outer, v); !in {
				return nil, fmt.Errorf("hole %d: %w: %g, %g", i+1, ErrHole, v.Lat, v.Lon)
			}
		}
	}
	return p, nil
}

// flat finds a ring without area.
func flat(r []Position) error {
	for i := 2; i < len(r); i++ {
		if turn(r[0], r[1], r[i]) != 0 {
			return nil
		}
	}
	return ErrNoArea
}

// smallPolygon has its few corners beside it, in the same lines of the cache.
type smallPolygon struct {
	Polygon
	room [4]Position
}

// newPolygon takes rings that cross themselves, too: what is enclosed an even
// number of times is outside.
func newPolygon(outer []Position, holes [][]Position) (*Polygon, error) {
	ring, err := unwrap(outer)
	if err != nil {
		return nil, err
	}
	p := &Polygon{outer: ring}
	if small := new(smallPolygon); len(ring) <= len(small.room) {
		small.outer = append(small.room[:0], ring...)
		p = &small.Polygon
	}
	p.west, p.east = math.Inf(1), math.Inf(-1)
	for _, v := range ring {
		p.west, p.east = min(p.west, v.Lon), max(p.east, v.Lon)
	}
	for i, h := range holes {
		ring, err := unwrap(h)
		if err != nil {
			return nil, fmt.Errorf("hole %d: %w", i+1, err)
		}
		shift := p.local(ring[0].Lon) - ring[0].Lon
		for j := range ring {
			ring[j].Lon += shift
		}
		p.holes = append(p.holes, ring)
	}
	return p, nil
}

// unwrap checks a ring and lets its longitudes run on over 180°.
func unwrap(ring []Position) ([]Position, error) {
	r := slices.Clone(ring)
	if n := len(r); n > 1 && r[0] == r[n-1] {
		r = r[:n-1]
	}
	r = slices.Compact(r)
	if len(r) < 3 {
		return nil, ErrFewPoints
	}
	wide := false
	for i, v := range r {
		if !v.Valid() {
			return nil, fmt.Errorf("%w: point %d is %g, %g", ErrPosition, i+1, v.Lat, v.Lon)
		}
		prev := r[(i+len(r)-1)%len(r)]
		alongPole := math.Abs(v.Lat) == 90 && prev.Lat == v.Lat
		wide = wide || math.Abs(v.Lon-prev.Lon) > 180 && !alongPole
	}
	if wide {
		for i := 1; i < len(r); i++ {
			r[i].Lon = r[i-1].Lon + math.Remainder(r[i].Lon-r[i-1].Lon, 360)
		}
		if math.Abs(r[len(r)-1].Lon-r[0].Lon) > 180 {
			return nil, ErrAroundPole
		}
	}
	return r, nil
}

// local shifts a longitude by whole turns so that it is in the polygon's range,
// if it can be.
func (p *Polygon) local(lon float64) float64 {
	for lon > p.east && lon-360 >= p.west {
		lon -= 360
	}
	for lon < p.west && lon+360 <= p.east {
		lon += 360
	}
	return lon
}

// Contains reports whether q is inside or on an edge, be it of a hole.
func (p *Polygon) Contains(q Position) bool {
	q.Lon = p.local(q.Lon)
	in, edge := inRing(p.outer, q)
	if edge || !in {
		return edge
	}
	for _, h := range p.holes {
		if in, edge := inRing(h, q); in && !edge {
			return false
		}
	}
	return true
}

// inRing counts the edges that a line to the east of q crosses.
func inRing(r []Position, q Position) (in, edge bool) {
	a := r[len(r)-1]
	for _, b := range r {
		t := turn(a, b, q)
		if t == 0 && q.Lat >= min(a.Lat, b.Lat) && q.Lat <= max(a.Lat, b.Lat) &&
			q.Lon >= min(a.Lon, b.Lon) && q.Lon <= max(a.Lon, b.Lon) {
			return true, true
		}
		if (a.Lat > q.Lat) != (b.Lat > q.Lat) && (t > 0) == (b.Lat > a.Lat) {
			in = !in
		}
		a = b
	}
	return in, false
}

// Distance is how far q is from the polygon.
func (p *Polygon) Distance(q Position) float64 {
	if p.Contains(q) {
		return 0
	}
	best := math.Inf(1)
	for _, shift := range [3]float64{-360, 0, 360} {
		at := Position{q.Lat, q.Lon + shift}
		best = min(best, toRing(p.outer, at))
		for _, h := range p.holes {
			best = min(best, toRing(h, at))
		}
	}
	return best
}

// toRing is the distance to the nearest edge: the nearest point of each is found
// on the plane at q, and then on the nearest edge by the geodesic.
func toRing(r []Position, q Position) float64 {
	best, from, to := math.Inf(1), r[0], r[0]
	a := r[len(r)-1]
	for _, b := range r {
		if d := Distance(q, nearest(a, b, q)); d < best {
			best, from, to = d, a, b
		}
		a = b
	}
	lo, hi := 0.0, 1.0
	at := func(t float64) float64 {
		return Distance(q, Position{from.Lat + t*(to.Lat-from.Lat), from.Lon + t*(to.Lon-from.Lon)})
	}
	for range 60 {
		m1, m2 := lo+(hi-lo)/3, hi-(hi-lo)/3
		if at(m1) < at(m2) {
			hi = m2
		} else {
			lo = m1
		}
	}
	return min(best, at((lo+hi)/2))
}

func nearest(a, b, q Position) Position {
	k := math.Cos(q.Lat * math.Pi / 180)
	dx, dy := (b.Lon-a.Lon)*k, b.Lat-a.Lat
	n := dx*dx + dy*dy
	if n == 0 {
		return a
	}
	t := max(0, min(1, ((q.Lon-a.Lon)*k*dx+(q.Lat-a.Lat)*dy)/n))
	return Position{a.Lat + t*(b.Lat-a.Lat), a.Lon + t*(b.Lon-a.Lon)}
}

// Bounds are boxes around the outer ring.
func (p *Polygon) Bounds() []Box {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range p.outer {
		lo, hi = min(lo, v.Lat), max(hi, v.Lat)
	}
	west, east := p.west, p.east
	for west >= 180 {
		west, east = west-360, east-360
	}
	for east <= -180 {
		west, east = west+360, east+360
	}
	return wrap(lo, hi, west, east)
}

// Append appends the polygon's identity: its corners, ring by ring.
func (p *Polygon) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, 'p'), uint64(1+len(p.holes)))
	dst = appendRing(dst, p.outer)
	for _, h := range p.holes {
		dst = appendRing(dst, h)
	}
	return dst
}

func appendRing(dst []byte, ring []Position) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ring)))
	for _, v := range ring {
		dst = appendFloats(dst, v.Lat, v.Lon)
	}
	return dst
}

// MultiPolygon is all that one of its polygons holds.
type MultiPolygon []*Polygon

var _ Shape = MultiPolygon{}

// Contains reports whether one of the polygons holds p.
func (m MultiPolygon) Contains(p Position) bool {
	return slices.ContainsFunc(m, func(q *Polygon) bool { return q.Contains(p) })
}

// Distance is that to the nearest polygon; infinite if there is none.
func (m MultiPolygon) Distance(p Position) float64 {
	best := math.Inf(1)
	for _, q := range m {
		best = min(best, q.Distance(p))
	}
	return best
}

// Bounds are those of all polygons.
func (m MultiPolygon) Bounds() (boxes []Box) {
	for _, q := range m {
		boxes = append(boxes, q.Bounds()...)
	}
	return boxes
}

// Append appends the identity of all polygons, in their order.
func (m MultiPolygon) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, 'm'), uint64(len(m)))
	for _, p := range m {
		dst = p.Append(dst)
	}
	return dst
}
