package geo

import (
	"cmp"
	"slices"

	"github.com/tidwall/rtree"
)

// ZoneIndex finds the zones that hold a position without walking the others. The
// zero value is empty. It is for one writer or any number of readers at a time.
type ZoneIndex struct {
	tree rtree.RTreeG[int]
	// shapes are found by number: a map in their place costs a miss of the cache
	// for each zone that is looked at.
	shapes []indexed
	// grid and wide are the tree's front after a Load: the zones of the grid, and
	// a tree of the others. A later change drops them.
	grid *grid
	wide *rtree.RTreeG[int]
}

// indexed is a shape, and whether the tree holds more than one box of it.
type indexed struct {
	Shape
	several bool
}

// Insert adds a zone under a number of the caller's, which must be new. The numbers
// are from 0 on and without large gaps: memory follows the largest.
func (x *ZoneIndex) Insert(id int, z Zone) {
	x.grid, x.wide = nil, nil
	for len(x.shapes) <= id {
		x.shapes = append(x.shapes, indexed{})
	}
	boxes := z.Bounds()
	x.shapes[id] = indexed{z.Shape, len(boxes) > 1}
	for _, b := range boxes {
		x.tree.Insert(corners(b.Min), corners(b.Max), id)
	}
}

// Load inserts zones under their places in the list, neighbours after each other:
// nodes of the tree that are filled so overlap less, and lie together. The index
// must be empty before.
func (x *ZoneIndex) Load(zones []Zone) {
	order := make([]int, len(zones))
	keys := make([]uint64, len(zones))
	boxes := make([][]Box, len(zones))
	for i, z := range zones {
		order[i], boxes[i] = i, z.Bounds()
		if len(boxes[i]) > 0 {
			keys[i] = zOrder(boxes[i][0])
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(keys[a], keys[b]), a-b) })
	for _, i := range order {
		x.Insert(i, zones[i])
	}
	grid, in := newGrid(boxes)
	wide := new(rtree.RTreeG[int])
	for _, i := range order {
		for _, b := range boxes[i] {
			if !in[i] {
				wide.Insert(corners(b.Min), corners(b.Max), i)
			}
		}
	}
	x.grid, x.wide = grid, wide
}

// zOrder interleaves the bits of a box's middle, so that near boxes mostly have near
// numbers (Morton, 1966).
func zOrder(b Box) (z uint64) {
	lat := uint64((b.Min.Lat + b.Max.Lat + 180) / 360 * (1<<31 - 1))
	lon := uint64((b.Min.Lon + b.Max.Lon + 360) / 720 * (1<<31 - 1))
	for bit := range 31 {
		z |= (lat>>bit&1)<<(2*bit) | (lon>>bit&1)<<(2*bit+1)
	}
	return z
}

// Delete removes the zone of that number, if it is there.
func (x *ZoneIndex) Delete(id int) {
	if id >= len(x.shapes) || x.shapes[id].Shape == nil {
		return
	}
	s := x.shapes[id]
	x.shapes[id] = indexed{}
	x.grid, x.wide = nil, nil
	for _, b := range s.Bounds() {
		x.tree.Delete(corners(b.Min), corners(b.Max), id)
	}
}

// Containing calls fn once for each zone that holds p, until it returns false.
// Their order is the index's own.
func (x *ZoneIndex) Containing(p Position, fn func(id int) bool) {
	if p.Lon == 180 || p.Lon == -180 { // it stands at both ends
		x.containing(&x.tree, Position{p.Lat, -180}, Position{p.Lat, 180}, p, fn)
		return
	}
	tree := &x.tree
	if x.grid != nil {
		lat, lon := float32(p.Lat), float32(p.Lon)
		entries := x.grid.at(p)
		for i := range entries {
			if e := &entries[i]; e.holds(lat, lon) && x.shapes[e.id].Contains(p) && !fn(int(e.id)) {
				return
			}
		}
		tree = x.wide
	}
	x.containing(tree, p, p, p, fn)
}

// containing looks for the zones that hold p in the tree at one or two places.
func (x *ZoneIndex) containing(tree *rtree.RTreeG[int], at, also, p Position, fn func(id int) bool) {
	var seen []int // of those that may be met again
	more := true
	visit := func(_, _ [2]float64, id int) bool {
		s := &x.shapes[id]
		if (s.several || at != also) && slices.Contains(seen, id) || !s.Contains(p) {
			return true
		}
		if s.several || at != also {
			seen = append(seen, id)
		}
		more = fn(id)
		return more
	}
	tree.Search(corners(at), corners(at), visit)
	if more && at != also {
		tree.Search(corners(also), corners(also), visit)
	}
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
