package rules

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/regular"
	"github.com/geocast/geocast/strictyaml"
)

// A Set is what one or more rules files say, compiled. It is immutable and safe for concurrent use.
type Set struct {
	zones     []geo.Zone
	zoneKeys  []uint64       // per zone: a hash of its id and shape
	zoneByKey map[uint64]int // its inverse
	nearByKey map[uint64]*Rule
	anyInside bool // whether a rule asks for inside
	rules     []*Rule
	sources   []*Source
	class     []uint32 // per zone: which of rulesOf are its rules
	mentions  []mention
	rulesOf   []zoneRules // each kind once, so that few lines of the cache serve many zones
	index     geo.ZoneIndex
	pairs     crowdIndex // the near rules, by either side
}

// Zones returns the zones in the order of the files. A zone of a GeoJSON file with several features is called file-zone/feature.
func (s *Set) Zones() []geo.Zone { return slices.Clone(s.zones) }

// Rules returns the rules in the order of the files, disabled ones included.
func (s *Set) Rules() []*Rule { return slices.Clone(s.rules) }

// Sources returns the sources in the order of the files.
func (s *Set) Sources() []*Source { return slices.Clone(s.sources) }

// Load reads rules files, which may use each other's zones. GeoJSON files are looked up beside the file that names them.
// The error is [Faults] with everything that is wrong in them, or what the file system says.
func Load(files ...string) (*Set, error) {
	l := newLoader()
	for _, name := range files {
		text, err := regular.Read(name)
		if err != nil {
			return nil, err
		}
		l.read(name, text, os.DirFS(filepath.Dir(name)))
	}
	return l.set()
}

// Parse reads one rules file from memory. The GeoJSON files that it names are opened in fsys, which may be nil if there are none.
// The error is [Faults]. Parse never panics, whatever text is.
func Parse(name string, text []byte, fsys fs.FS) (*Set, error) {
	l := newLoader()
	l.read(name, text, fsys)
	return l.set()
}

// A loader gathers what several files say.
type loader struct {
	documents []*document
	zones     []geo.Zone
	zoneKeys  []uint64
	zoneAt    map[string]string // name as written → the file
	zoneIDs   map[string][]int  // name as written, and each id → zones
	broken    map[string]bool   // names of zones with a fault: known, but not usable
	rules     []*Rule
	ruleAt    map[string]string
	refs      []zoneRef
	sources   []*Source
}

// A zoneRef is a zone, or a tag of zones, that a rule names.
type zoneRef struct {
	d    *document
	at   ast.Node
	rule *Rule
	zone string
	tag  string
}

func newLoader() *loader {
	return &loader{
		zoneAt: map[string]string{}, zoneIDs: map[string][]int{}, broken: map[string]bool{}, ruleAt: map[string]string{},
	}
}

var (
	fileWords = []string{"version", "sources", "zones", "rules"}
	fileLater = []string{"defaults", "routes", "calendars", "audiences"}
)

func (l *loader) read(name string, text []byte, fsys fs.FS) {
	d := &document{name: name}
	l.documents = append(l.documents, d)
	root := d.root(text)
	if root == nil {
		return
	}
	entries, ok := d.mapping(root, "a rules file")
	if !ok {
		return
	}
	d.version(root, entries)
	for _, e := range entries {
		switch e.key {
		case "version":
		case "sources":
			l.readSources(d, e.value)
		case "zones":
			l.readZones(d, e.value, fsys)
		case "rules":
			l.readRules(d, e.value)
		default:
			d.unknown(e, "a rules file", fileWords, fileLater)
		}
	}
}

// version refuses a file of another time than ours.
func (d *document) version(root ast.Node, entries []entry) {
	at := slices.IndexFunc(entries, func(e entry) bool { return e.key == "version" })
	if at < 0 {
		d.fault(root, "no version; a rules file begins with version: 1")
		return
	}
	if v, _ := scalar(entries[at].value); v != "1" {
		d.fault(entries[at].value, "version %s is not known; this program reads version 1", v)
	}
}

// section returns the entries of a part of the file, which may be empty.
func (d *document) section(n ast.Node, what string) []entry {
	if _, null := n.(*ast.NullNode); null || n == nil {
		return nil
	}
	entries, _ := d.mapping(n, what)
	return entries
}

func (l *loader) readRules(d *document, n ast.Node) {
	for _, e := range d.section(n, "rules") {
		l.rule(d, e)
	}
}

func (l *loader) readZones(d *document, n ast.Node, fsys fs.FS) {
	for _, e := range d.section(n, "zones") {
		l.zone(d, e, fsys)
	}
}

// set links the rules with their zones; nil and Faults if anything was wrong.
func (l *loader) set() (*Set, error) {
	l.resolve()
	var faults Faults
	var mentions []mention
	for _, d := range l.documents {
		faults = append(faults, d.faults.inOrder()...)
		mentions = append(mentions, d.mentions...)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	s := &Set{zones: l.zones, zoneKeys: l.zoneKeys, rules: l.rules, sources: l.sources, mentions: mentions}
	of := make([][]*Rule, len(l.zones))
	for i, r := range s.rules {
		r.index = i
		slices.Sort(r.zones)
		r.zones = slices.Compact(r.zones)
		r.key = r.pairKey()
		for _, z := range r.zones {
			if r.Enabled {
				s.anyInside = s.anyInside || r.Situation == Inside
				of[z] = append(of[z], r)
			}
		}
	}
	s.classify(of)
	s.zoneByKey = make(map[uint64]int, len(s.zoneKeys))
	for i, key := range s.zoneKeys {
		s.zoneByKey[key] = i
	}
	s.nearByKey = nearByKey(s.rules)
	s.index.Load(s.zones)
	s.pairs = pairIndex(s.rules)
	return s, nil
}

// resolve looks up the zones that rules name.
func (l *loader) resolve() {
	names := make([]string, 0, len(l.zoneAt))
	for name := range l.zoneAt {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, ref := range l.refs {
		found := l.zoneIDs[ref.zone]
		if ref.tag != "" {
			found = l.tagged(ref.tag)
		}
		ref.rule.zones = append(ref.rule.zones, found...)
		switch {
		case len(found) > 0 || l.broken[ref.zone]:
		case ref.tag == "":
			ref.d.fault(ref.at, "unknown zone %q%s", ref.zone, l.zoneHint(ref.zone, names))
		case len(l.broken) == 0:
			ref.d.fault(ref.at, "no zone has the tag %q%s", ref.tag, strictyaml.DidYouMean(ref.tag, l.tags()))
		}
	}
}

func (l *loader) zoneHint(name string, names []string) string {
	if hint := strictyaml.DidYouMean(name, names); hint != "" {
		return hint
	}
	if len(l.tagged(name)) > 0 {
		return fmt.Sprintf("; it is a tag: write {tag: %s}", name)
	}
	return l.featureHint(name)
}

// featureHint says which features the file of a zone has.
func (l *loader) featureHint(name string) string {
	file, _, ok := strings.Cut(name, "/")
	if !ok {
		return ""
	}
	var features []string
	for i := range l.zones {
		if strings.HasPrefix(l.zones[i].ID, file+"/") {
			features = append(features, l.zones[i].ID)
		}
	}
	const most = 3
	switch {
	case len(features) == 0:
		return ""
	case len(features) > most:
		return fmt.Sprintf("; there are %s and %d more", strings.Join(features[:most], ", "), len(features)-most)
	}
	return "; there are " + strings.Join(features, ", ")
}

func (l *loader) tagged(tag string) []int {
	var found []int
	for i := range l.zones {
		if slices.Contains(l.zones[i].Tags, tag) {
			found = append(found, i)
		}
	}
	return found
}

func (l *loader) tags() []string {
	var tags []string
	for i := range l.zones {
		tags = append(tags, l.zones[i].Tags...)
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}
