package geo

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// maxLooks bounds how many pairs of edges are looked at, to a second or two: a ring of n
// edges has a few times n that lie side by side, unless it is a comb that is aslant.
const maxLooks = 100_000_000

// crossing finds an edge that crosses another: those that overlap in latitude, or in
// longitude if edges are shorter there, are looked at.
func crossing(r []Position) error {
	n := len(r)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	span := narrow(r)
	low := func(i int) float64 { l, _ := span(i); return l }
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(low(a), low(b)), a-b) })
	looks := 0
	for x, i := range order {
		_, high := span(i)
		for _, j := range order[x+1:] {
			if low(j) > high {
				break
			}
			if properly(r[i], r[(i+1)%n], r[j], r[(j+1)%n]) {
				return fmt.Errorf("%w: the edges after points %d and %d", ErrCrossing, min(i, j)+1, max(i, j)+1)
			}
			if looks++; looks > maxLooks {
				return ErrIntricate
			}
		}
	}
	return nil
}

// narrow returns the spans of the edges, by their first points, on the axis on which they
// are shorter, seen beside the whole ring.
func narrow(r []Position) func(i int) (low, high float64) {
	onLat := func(i int) (float64, float64) {
		a, b := r[i].Lat, r[(i+1)%len(r)].Lat
		return min(a, b), max(a, b)
	}
	onLon := func(i int) (float64, float64) {
		a, b := r[i].Lon, r[(i+1)%len(r)].Lon
		return min(a, b), max(a, b)
	}
	if crowd(r, onLon) < crowd(r, onLat) {
		return onLon
	}
	return onLat
}

// crowd is how many edges lie beside each other on an axis, on average.
func crowd(r []Position, span func(i int) (low, high float64)) float64 {
	sum, least, most := 0.0, math.Inf(1), math.Inf(-1)
	for i := range r {
		low, high := span(i)
		sum, least, most = sum+high-low, min(least, low), max(most, high)
	}
	return sum / (most - least)
}

// properly reports whether two edges cross at a point inside both.
func properly(a, b, c, d Position) bool {
	if max(a.Lon, b.Lon) < min(c.Lon, d.Lon) || max(c.Lon, d.Lon) < min(a.Lon, b.Lon) {
		return false
	}
	return turn(a, b, c)*turn(a, b, d) < 0 && turn(c, d, a)*turn(c, d, b) < 0
}

// turn is the sign of the turn a → b → c: 1 to the left, 0 for none.
func turn(a, b, c Position) int {
	l := (b.Lon - a.Lon) * (c.Lat - a.Lat)
	r := (b.Lat - a.Lat) * (c.Lon - a.Lon)
	switch d := l - r; {
	case math.Abs(d) <= 1e-15*(math.Abs(l)+math.Abs(r)):
		return 0
	case d > 0:
		return 1
	}
	return -1
}
