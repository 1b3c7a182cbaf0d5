package rules

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/geocast/geocast/geo"
)

// gpxSpace is the namespace of our extensions of GPX.
const gpxSpace = "urn:geocast:gpx:1"

// gpxExtensions are the fields of a fix that GPX has no element for.
var gpxExtensions = []string{"recv", "acc", "vel", "cog", "batt", "event", "id"}

// gpxPoint is a trkpt: GPX 1.0 has speed (m/s) and course, 1.1 has extensions.
type gpxPoint struct {
	Lat    *float64 `xml:"lat,attr"`
	Lon    *float64 `xml:"lon,attr"`
	Ele    *float64 `xml:"ele"`
	Time   string   `xml:"time"`
	Speed  *float64 `xml:"speed"`
	Course *float64 `xml:"course"`
	Ours   struct {
		Fields []struct {
			XMLName xml.Name
			Text    string `xml:",chardata"`
		} `xml:",any"`
	} `xml:"extensions"`
}

// readGPX reads the points of all tracks of a file; waypoints and routes are no fixes.
func readGPX(r io.Reader) ([]geo.Fix, error) {
	d := xml.NewDecoder(r)
	var fixes []geo.Fix
	var of geo.Fix // whose track it is
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return fixes, nil
		}
		if err == nil {
			if start, ok := token.(xml.StartElement); ok {
				fixes, err = readElement(d, &start, &of, fixes)
			}
		}
		if err != nil {
			line, _ := d.InputPos()
			return nil, fmt.Errorf("track: line %d: %w", line, err)
		}
	}
}

func readElement(d *xml.Decoder, start *xml.StartElement, of *geo.Fix, fixes []geo.Fix) ([]geo.Fix, error) {
	switch {
	case start.Name.Local == "trk":
		*of = geo.Fix{}
	case start.Name == xml.Name{Space: gpxSpace, Local: "who"}:
		return fixes, d.DecodeElement(&of.Who, start)
	case start.Name == xml.Name{Space: gpxSpace, Local: "tracker"}:
		return fixes, d.DecodeElement(&of.Tracker, start)
	case start.Name.Local == "trkpt":
		var p gpxPoint
		if err := d.DecodeElement(&p, start); err != nil {
			return fixes, err
		}
		fix, err := p.fix(*of)
		return append(fixes, fix), err
	}
	return fixes, nil
}

func (p *gpxPoint) fix(f geo.Fix) (geo.Fix, error) {
	if p.Lat == nil || p.Lon == nil || !(geo.Position{Lat: *p.Lat, Lon: *p.Lon}).Valid() {
		return f, errors.New("trkpt has no valid lat and lon")
	}
	if err := setTime(&f, strings.TrimSpace(p.Time)); err != nil {
		return f, fmt.Errorf("trkpt has no time that can be read (%q): a fix needs one", p.Time)
	}
	f.Position = geo.Position{Lat: *p.Lat, Lon: *p.Lon}
	if p.Ele != nil {
		f.Alt, f.Has = *p.Ele, f.Has|geo.HasAlt
	}
	if p.Speed != nil {
		f.Vel, f.Has = *p.Speed*3.6, f.Has|geo.HasVel
	}
	if p.Course != nil {
		f.Cog, f.Has = *p.Course, f.Has|geo.HasCog
	}
	for _, e := range p.Ours.Fields {
		field := e.XMLName.Local
		if e.XMLName.Space != gpxSpace || !slices.Contains(gpxExtensions, field) {
			continue
		}
		if err := setTrackField(&f, field, cellValue(field, e.Text)); err != nil {
			return f, err
		}
	}
	return f, nil
}

func writeGPX(w *bufio.Writer, fixes iter.Seq[geo.Fix]) error {
	fmt.Fprintf(w, "%s<gpx version=\"1.1\" creator=\"geocast\" xmlns=\"http://www.topografix.com/GPX/1/1\" xmlns:g=\"%s\">\n", xml.Header, gpxSpace)
	var last geo.Fix
	open := false
	for f := range fixes {
		if !open || f.Who != last.Who || f.Tracker != last.Tracker {
			if open {
				fmt.Fprint(w, "</trkseg></trk>\n")
			}
			open, last = true, f
			fmt.Fprintf(w, "<trk><name>%s</name><extensions><g:who>%s</g:who><g:tracker>%s</g:tracker></extensions><trkseg>\n",
				escape(f.Who+"/"+f.Tracker), escape(f.Who), escape(f.Tracker))
		}
		writePoint(w, &f)
	}
	if open {
		fmt.Fprint(w, "</trkseg></trk>\n")
	}
	_, err := fmt.Fprint(w, "</gpx>\n") // the first error of w comes back from each later write
	return err
}

func writePoint(w *bufio.Writer, f *geo.Fix) {
	fmt.Fprintf(w, `<trkpt lat="%s" lon="%s">`, number(f.Lat), number(f.Lon))
	if alt, has := fieldText(f, "alt"); has {
		fmt.Fprintf(w, "<ele>%s</ele>", alt)
	}
	fmt.Fprintf(w, "<time>%s</time>", time.UnixMilli(f.Tst).UTC().Format("2006-01-02T15:04:05.000Z"))
	open := false
	for _, field := range gpxExtensions {
		text, has := fieldText(f, field)
		if !has {
			continue
		}
		if !open {
			fmt.Fprint(w, "<extensions>")
			open = true
		}
		fmt.Fprintf(w, "<g:%s>%s</g:%s>", field, escape(text), field)
	}
	if open {
		fmt.Fprint(w, "</extensions>")
	}
	fmt.Fprint(w, "</trkpt>\n")
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder never fails
	return b.String()
}
