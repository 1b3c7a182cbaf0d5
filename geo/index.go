package geo

import "github.com/tidwall/rtree"

// ZoneIndex finds the zones that hold a position without walking the others. The
// zero value is empty. It is for one writer or any number of readers at a time.
type ZoneIndex struct {
	tree  rtree.RTreeG[int]
	zones map[int]Zone
}

// Insert adds a zone under a number of the caller's, which must be new.
func (x *ZoneIndex) Insert(id int, z Zone) {
	if x.zones == nil {
		x.zones = make(map[int]Zone)
	}
	x.zones[id] = z
	for _, b := range z.Bounds() {
		x.tree.Insert(corners(b.Min), corners(b.Max), id)
	}
}

// Delete removes the zone of that number, if it is there.
func (x *ZoneIndex) Delete(id int) {
	z, ok := x.zones[id]
	if !ok {
		return
	}
	delete(x.zones, id)
	for _, b := range z.Bounds() {
		x.tree.Delete(corners(b.Min), corners(b.Max), id)
	}
}

// Containing calls fn once for each zone that holds p, until it returns false.
// Their order is the index's own.
func (x *ZoneIndex) Containing(p Position, fn func(id int) bool) {
	var seen []int
	for _, at := range seam(p) {
		c := corners(at)
		x.tree.Search(c, c, func(_, _ [2]float64, id int) bool {
			for _, had := range seen {
				if had == id {
					return true
				}
			}
			if !x.zones[id].Contains(p) {
				return true
			}
			seen = append(seen, id)
			return fn(id)
		})
	}
}

// seam returns p as it may stand in the index: a position at 180° stands at both
// ends.
func seam(p Position) []Position {
	if p.Lon == 180 || p.Lon == -180 {
		return []Position{{p.Lat, 180}, {p.Lat, -180}}
	}
	return []Position{p}
}

func corners(p Position) [2]float64 { return [2]float64{p.Lat, p.Lon} }

// MoverIndex finds moving positions. The zero value is empty. It is for one
// writer or any number of readers at a time.
type MoverIndex[K comparable] struct{ tree rtree.RTreeG[K] }

// Insert adds k at p.
func (x *MoverIndex[K]) Insert(k K, p Position) { x.tree.Insert(corners(p), corners(p), k) }

// Delete removes k, which stands at p.
func (x *MoverIndex[K]) Delete(k K, p Position) { x.tree.Delete(corners(p), corners(p), k) }

// Move moves k.
func (x *MoverIndex[K]) Move(k K, from, to Position) {
	if from != to {
		x.Delete(k, from)
		x.Insert(k, to)
	}
}

// Len is the number of positions.
func (x *MoverIndex[K]) Len() int { return x.tree.Len() }

// Within calls fn for each position at most metres from p, with its distance,
// until it returns false. Their order is the index's own.
func (x *MoverIndex[K]) Within(p Position, metres float64, fn func(k K, metres float64) bool) {
	x.search(around(Box{p, p}, metres), func(q Position) float64 { return Distance(p, q) }, metres, fn)
}

// Around calls fn for each position at most metres from an area; see Within.
func (x *MoverIndex[K]) Around(s Shape, metres float64, fn func(k K, metres float64) bool) {
	seen := make(map[K]bool)
	for _, b := range s.Bounds() {
		x.search(around(b, metres), s.Distance, metres, func(k K, d float64) bool {
			if seen[k] {
				return true
			}
			seen[k] = true
			return fn(k, d)
		})
	}
}

func (x *MoverIndex[K]) search(boxes []Box, distance func(Position) float64, metres float64, fn func(K, float64) bool) {
	more := true
	for _, b := range boxes {
		if !more {
			return
		}
		x.tree.Search(corners(b.Min), corners(b.Max), func(at, _ [2]float64, k K) bool {
			if d := distance(Position{at[0], at[1]}); d <= metres {
				more = fn(k, d)
			}
			return more
		})
	}
}
