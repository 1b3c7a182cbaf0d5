package geo

import (
	"cmp"
	"math"
	"slices"
)

// A grid stands in front of the R-tree for zones that are small against its cells:
// the zones near a position lie side by side in memory, where the tree's nodes
// cost misses of the cache that grow with the number of zones. It is made once.
type grid struct {
	cell    float64 // degrees
	slots   []gridSlot
	entries []gridEntry
}

// gridSlot is a cell in a hash table with open addressing: its entries from first on.
type gridSlot struct {
	key      uint64
	first, n uint32
}

// gridEntry is a zone with its box, rounded outwards.
type gridEntry struct {
	minLat, minLon, maxLat, maxLon float32
	id                             int32
}

// maxCells is how many cells a zone may lie in; larger ones stay in the tree alone.
const maxCells = 16

// placed is an entry in a cell.
type placed struct {
	key   uint64
	entry gridEntry
}

// newGrid makes a grid of the boxes that fit, and reports for each zone whether it
// is in it. Its cells are as large as the middle one of the boxes.
func newGrid(boxes [][]Box) (g *grid, in []bool) {
	g = &grid{cell: middling(boxes)}
	in = make([]bool, len(boxes))
	var all []placed
	for id, bs := range boxes {
		if len(bs) == 1 && g.cells(bs[0]) <= maxCells {
			in[id] = true
			all = g.place(all, bs[0], int32(id))
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return cmp.Compare(a.key, b.key) })
	g.fill(all)
	return g, in
}

// place appends a zone's entries, one for each cell that its box touches.
func (g *grid) place(all []placed, b Box, id int32) []placed {
	e := gridEntry{below(b.Min.Lat), below(b.Min.Lon), above(b.Max.Lat), above(b.Max.Lon), id}
	for lat := g.index(b.Min.Lat); lat <= g.index(b.Max.Lat); lat++ {
		for lon := g.index(b.Min.Lon); lon <= g.index(b.Max.Lon); lon++ {
			all = append(all, placed{cellKey(lat, lon), e})
		}
	}
	return all
}

// fill takes entries that are sorted by cell. At most half of the slots are used.
func (g *grid) fill(all []placed) {
	cells := 0
	for i := range all {
		if i == 0 || all[i].key != all[i-1].key {
			cells++
		}
	}
	size := 4
	for size < 2*cells {
		size *= 2
	}
	g.slots, g.entries = make([]gridSlot, size), make([]gridEntry, len(all))
	for i, p := range all {
		s := g.slot(p.key)
		if s.n == 0 {
			*s = gridSlot{key: p.key, first: uint32(i)}
		}
		s.n++
		g.entries[i] = p.entry
	}
}

// middling is the median of the larger sides of the boxes, within bounds.
func middling(boxes [][]Box) float64 {
	var sides []float64
	for _, bs := range boxes {
		if len(bs) == 1 {
			sides = append(sides, max(bs[0].Max.Lat-bs[0].Min.Lat, bs[0].Max.Lon-bs[0].Min.Lon))
		}
	}
	if len(sides) == 0 {
		return 1
	}
	slices.Sort(sides)
	return min(max(sides[len(sides)/2], 1e-4), 10)
}

func (g *grid) index(degrees float64) int32 { return int32(math.Floor(degrees / g.cell)) }

func (g *grid) cells(b Box) int {
	lat := int(g.index(b.Max.Lat)) - int(g.index(b.Min.Lat)) + 1
	lon := int(g.index(b.Max.Lon)) - int(g.index(b.Min.Lon)) + 1
	if lat > maxCells || lon > maxCells {
		return maxCells + 1
	}
	return lat * lon
}

func cellKey(lat, lon int32) uint64 { return uint64(uint32(lat))<<32 | uint64(uint32(lon)) }

// slot is where a cell is, or would be.
func (g *grid) slot(key uint64) *gridSlot {
	mask := uint64(len(g.slots) - 1)
	for i := key * 0x9e3779b97f4a7c15 >> 20; ; i++ { // Fibonacci hashing (Knuth, 6.4)
		if s := &g.slots[i&mask]; s.n == 0 || s.key == key {
			return s
		}
	}
}

// at are the entries of the cell that p lies in.
func (g *grid) at(p Position) []gridEntry {
	s := g.slot(cellKey(g.index(p.Lat), g.index(p.Lon)))
	return g.entries[s.first : s.first+s.n]
}

// holds reports whether p may be in the entry's zone.
func (e *gridEntry) holds(lat, lon float32) bool {
	return lat >= e.minLat && lat <= e.maxLat && lon >= e.minLon && lon <= e.maxLon
}

// below is a float32 that is not above v once both are rounded; above is its like.
func below(v float64) float32 { return math.Nextafter32(float32(v), float32(math.Inf(-1))) }
func above(v float64) float32 { return math.Nextafter32(float32(v), float32(math.Inf(1))) }
