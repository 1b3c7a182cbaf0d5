// Package geo is where things are: positions, fixes and their payload formats,
// zones, distance on the earth, and the R-tree indexes that find zones and moving
// positions. Latitude comes before longitude everywhere but in GeoJSON. It holds
// no clock and does no I/O.
package geo

import "math"

// Position is a point on the WGS84 ellipsoid, in degrees: Lat in -90..90, Lon in
// -180..180. The zero value is the point off Africa where both are 0.
type Position struct{ Lat, Lon float64 }

// Valid reports whether both coordinates are in range; NaN is not.
func (p Position) Valid() bool {
	return p.Lat >= -90 && p.Lat <= 90 && p.Lon >= -180 && p.Lon <= 180
}

// WGS84.
const (
	equator    = 6378137.0 // metres
	flattening = 1 / 298.257223563
	polar      = equator * (1 - flattening)
)

// flatUpTo is the distance, in degrees of latitude, up to which the flat formula
// is exact to a centimetre below 75° (about 50 km).
const flatUpTo = 0.45

// Distance is the length of the geodesic between two positions in metres: the
// local ellipsoidal plane for near ones, else Vincenty's inverse formula (Survey
// Review 23, 1975). It is exact to 1 cm below 50 km and to 1 mm beyond, but for
// points within about 1° of being antipodal, where it is within 0.5 %.
func Distance(a, b Position) float64 {
	dLat, dLon := b.Lat-a.Lat, math.Remainder(b.Lon-a.Lon, 360)
	mid := (a.Lat + b.Lat) / 2
	if math.Abs(dLat) < flatUpTo && math.Abs(mid) < 75 {
		s, c := math.Sincos(mid * math.Pi / 180)
		if math.Abs(dLon)*c < flatUpTo {
			const e2 = flattening * (2 - flattening)
			w := 1 / (1 - e2*s*s)
			n := equator * math.Sqrt(w) // the radius across the meridian
			m := n * (1 - e2) * w       // the radius along it
			return math.Hypot(m*dLat, n*c*dLon) * math.Pi / 180
		}
	}
	return vincenty(a, b, dLon)
}

// vincenty iterates on λ, the difference in longitude on the auxiliary sphere.
func vincenty(a, b Position, dLon float64) float64 {
	const rad = math.Pi / 180
	l := dLon * rad
	s1, c1 := reduced(a.Lat)
	s2, c2 := reduced(b.Lat)
	lambda := l
	var sinS, cosS, sigma, cos2A, cos2M float64
	for range 200 {
		sl, cl := math.Sincos(lambda)
		sinS = math.Hypot(c2*sl, c1*s2-s1*c2*cl)
		if sinS == 0 && cl > 0 {
			return 0
		}
		cosS = s1*s2 + c1*c2*cl
		sigma = math.Atan2(sinS, cosS)
		sinA := 0.0
		if sinS != 0 {
			sinA = c1 * c2 * sl / sinS
		}
		cos2A = 1 - sinA*sinA
		cos2M = 0
		if cos2A > 1e-15 {
			cos2M = cosS - 2*s1*s2/cos2A
		}
		k := flattening / 16 * cos2A * (4 + flattening*(4-3*cos2A))
		next := l + (1-k)*flattening*sinA*(sigma+k*sinS*(cos2M+k*cosS*(2*cos2M*cos2M-1)))
		if math.Abs(next) > math.Pi {
			return antipodal(a, b)
		}
		if math.Abs(next-lambda) < 1e-13 {
			return polar * vincentySeries(cos2A, sigma, sinS, cosS, cos2M)
		}
		lambda = next
	}
	return antipodal(a, b)
}

func reduced(lat float64) (sin, cos float64) {
	return math.Sincos(math.Atan((1 - flattening) * math.Tan(lat*math.Pi/180)))
}

func vincentySeries(cos2A, sigma, sinS, cosS, cos2M float64) float64 {
	u2 := cos2A * (equator*equator - polar*polar) / (polar * polar)
	a := 1 + u2/16384*(4096+u2*(-768+u2*(320-175*u2)))
	b := u2 / 1024 * (256 + u2*(-128+u2*(74-47*u2)))
	d := b * sinS * (cos2M + b/4*(cosS*(2*cos2M*cos2M-1)-b/6*cos2M*(4*sinS*sinS-3)*(4*cos2M*cos2M-3)))
	return a * (sigma - d)
}

// antipodal is the great circle on the mean sphere, at most half a meridian.
func antipodal(a, b Position) float64 {
	const rad = math.Pi / 180
	sLat, sLon := math.Sin((b.Lat-a.Lat)*rad/2), math.Sin((b.Lon-a.Lon)*rad/2)
	h := sLat*sLat + math.Cos(a.Lat*rad)*math.Cos(b.Lat*rad)*sLon*sLon
	return min(2*6371008.8*math.Asin(math.Sqrt(min(h, 1))), 20003931.46)
}

// Box is a range of latitudes and longitudes that does not cross 180°.
type Box struct{ Min, Max Position }

// around returns one or two boxes that hold everything within metres of box;
// they are never too small.
func around(b Box, metres float64) []Box {
	const perDegree = 110500 // a degree of latitude is never shorter, in metres
	d := metres / perDegree * 1.001
	lo, hi := b.Min.Lat-d, b.Max.Lat+d
	if lo <= -90 || hi >= 90 {
		return []Box{{Position{max(lo, -90), -180}, Position{min(hi, 90), 180}}}
	}
	worst := math.Cos(max(math.Abs(lo), math.Abs(hi)) * math.Pi / 180)
	dl := d / worst * 1.01
	return wrap(lo, hi, b.Min.Lon-dl, b.Max.Lon+dl)
}

// wrap splits a range of longitudes that may leave -180..180.
func wrap(lo, hi, west, east float64) []Box {
	box := func(w, e float64) Box { return Box{Position{lo, w}, Position{hi, e}} }
	switch {
	case east-west >= 360:
		return []Box{box(-180, 180)}
	case west < -180:
		return []Box{box(west+360, 180), box(-180, east)}
	case east > 180:
		return []Box{box(west, 180), box(-180, east-360)}
	}
	return []Box{box(west, east)}
}
