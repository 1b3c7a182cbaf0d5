package georules_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// field is a field of a JSON object, as text.
func field(object, name string) string {
	var m map[string]any
	if json.Unmarshal([]byte(object), &m) != nil {
		return "no JSON"
	}
	return fmt.Sprint(m[name])
}

func seconds(ms int64) string { return fmt.Sprintf("%d.%03d", ms/1000, ms%1000) }

// Late and duplicate fixes move neither a tracker's nor a person's position.
func TestPositionsDontMoveBack(t *testing.T) {
	type step struct {
		tracker string
		lat     float64
		tst     int
		person  string // latitude of the person's position after it
		own     string // and of the tracker's
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"newer moves", []step{{"a", 1, 10, "1", "1"}, {"a", 2, 20, "2", "2"}}},
		{"late does not", []step{{"a", 1, 20, "1", "1"}, {"a", 2, 10, "1", "1"}}},
		{"a duplicate does not", []step{{"a", 1, 20, "1", "1"}, {"a", 2, 20, "1", "1"}}},
		{"an older one of another tracker moves that tracker only", []step{{"a", 1, 20, "1", "1"}, {"b", 2, 10, "1", "2"}, {"b", 3, 15, "1", "3"}, {"b", 4, 30, "4", "4"}, {"a", 5, 25, "4", "5"}}},
		{"a clock of the future does not silence the tracker", []step{{"a", 1, 86400, "1", "1"}, {"a", 2, 100, "2", "2"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, depot)
			for i, s := range test.steps {
				w.pass(time.Minute)
				if i == 1 {
					w.restart()
				}
				w.must("ann", "users/ann/location/"+s.tracker, w.fix(s.lat, s.tst))
				if got := field(w.retained["users/ann/location"], "lat"); got != s.person {
					t.Errorf("step %d: the person is at %s, want %s", i, got, s.person)
				}
				if got := field(w.retained["users/ann/location/"+s.tracker], "lat"); got != s.own {
					t.Errorf("step %d: the tracker is at %s, want %s", i, got, s.own)
				}
				if got := field(w.retained["owntracks/ann/"+s.tracker], "lat"); got != s.own {
					t.Errorf("step %d: OwnTracks is told %s, want %s", i, got, s.own)
				}
			}
		})
	}
}

func TestOwnTracksOut(t *testing.T) {
	w := newWorld(t, depot)
	w.must("ann", "users/ann/location/pixel", `{"lat":48.2,"lon":16.37,"tst":1789999990.5,"acc":12.4,"batt":80.6,"vel":3.5}`)
	want := `{"_type":"location","lat":48.2,"lon":16.37,"tst":1789999990,"acc":12,"vel":4,"batt":81,"tid":"el"}`
	if got := w.retained["owntracks/ann/pixel"]; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want = `{"v":1,"who":"ann","tracker":"pixel","lat":48.2,"lon":16.37,"acc":12.4,"tst":1789999990.5,"vel":3.5,"batt":80.6,"ts":1790000000000}`
	if got := w.retained["users/ann/location/pixel"]; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What OwnTracks apps show of their friends is passed on, in the server's writing, and
// nothing else; what a device says of a region and that it is gone is told once.
func TestOwnTracksPassedOn(t *testing.T) {
	const at = `"lat":48.2,"lon":16.37,"tst":1789999990`
	for _, row := range []struct{ name, topic, payload, want string }{
		{"all that apps show", "", `{"_type":"location",` + at + `,"acc":12,"alt":188,"batt":80,"bs":1,"cog":270,"conn":"m","created_at":1789999991,"inregions":["home","Wien"],"inrids":["a1"],"m":1,"t":"u","tid":"AN","vac":3.4,"vel":4,"poi":"x","tag":"y","topic":"owntracks/bob/x","SSID":"home","BSSID":"b","image":"aGk=","who":"eve"}`,
			`owntracks/ann/phone {"_type":"location",` + at + `,"acc":12,"alt":188,"vel":4,"cog":270,"batt":80,"tid":"AN","t":"u","conn":"m","bs":1,"m":1,"vac":3,"inregions":["home","Wien"],"inrids":["a1"],"tag":"y","poi":"x","created_at":1789999991}`},
		{"of the wrong kind", "", `{"_type":"location",` + at + `,"bs":"full","conn":5,"inregions":"home","inrids":[1],"t":["u"],"tid":"","vac":1e300}`, `owntracks/ann/phone {"_type":"location",` + at + `,"tid":"ne"}`},
		{"too long", "", `{"_type":"location",` + at + `,"tid":"` + strings.Repeat("x", 129) + `","inregions":[` + strings.Repeat(`"r",`, 20) + `"r"]}`, `owntracks/ann/phone {"_type":"location",` + at + `,"tid":"ne"}`},
		{"names of other formats", "", `{` + at + `,"tid":"AN","t":"u"}`, `owntracks/ann/phone {"_type":"location",` + at + `,"tid":"ne"}`},
		{"a transition", "/event", `{"_type":"transition","event":"enter","desc":"home","rid":"6da9cf","t":"c","tid":"AN","wtst":1789990000,` + at + `,"acc":12}`,
			`owntracks/ann/phone/event {"_type":"transition","event":"enter",` + at + `,"acc":12,"tid":"AN","t":"c","desc":"home","rid":"6da9cf","wtst":1789990000}` + "\n" + `owntracks/ann/phone {"_type":"location",` + at + `,"acc":12,"tid":"ne"}`},
		{"a last will", "", `{"_type":"lwt","tst":1789999990.9,"custom":1}`, `owntracks/ann/phone {"_type":"lwt","tst":1789999990}`},
		{"a last will without a time", "", `{"_type":"lwt"}`, `owntracks/ann/phone {"_type":"lwt","tst":1790000000}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, depot)
			w.must("ann", "owntracks/ann/phone"+row.topic, row.payload)
			if got := w.told("owntracks/"); got != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
		})
	}
	w := newWorld(t, depot)
	enter := func(tst string) string {
		return `{"_type":"transition","event":"enter","lat":48.2,"lon":16.37,"tst":` + tst + `}`
	}
	w.must("ann", "owntracks/ann/phone", `{"_type":"location",`+at+`}`)
	for tst, told := range map[string]bool{"1789999990": true, "1789999980": false} {
		w.log = nil
		w.must("ann", "owntracks/ann/phone/event", enter(tst))
		if got := w.told("owntracks/ann/phone/event"); (got != "") != told {
			t.Errorf("a transition of %s: told %q", tst, got)
		}
	}
}

// What a device is told about the bad reports of a batch is written as docs/wire.md has it.
func TestWireDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, depot)
	w.now += 60_400
	w.must("tim", "users/tim/location", `[{"lat":48,"lon":2},{"lat":98,"lon":2}]`)
	if _, body, _ := strings.Cut(w.replies[0], " "); !strings.Contains(string(page), "\n"+body+"\n") {
		t.Errorf("the page does not have %s", body)
	}
}

const sources = `
version: 1
sources:
  - topic: trackers/{who}/pos
    map: {lat: latitude, lon: longitude, tst: "timestamp / 1000"}
  - topic: plain/{who}
rules: {}
`

// What can't be taken is refused with a reason; of a batch the rest is kept, and the
// sender is told about the bad ones.
func TestBadFixes(t *testing.T) {
	for _, test := range []struct {
		name, topic, payload string
		kept                 int
		refused              string
		told                 string
	}{
		{"good", "users/ann/location", `{"lat":1,"lon":2}`, 1, "", ""},
		{"no JSON", "users/ann/location", `hello`, 0, "the payload is neither JSON nor CBOR of a fix", ""},
		{"empty", "users/ann/location", ``, 0, "the payload is neither JSON nor CBOR of a fix", ""},
		{"out of range", "users/ann/location", `{"lat":98,"lon":2}`, 0, "report 1: lat 98, lon 2 is out of range (latitude is -90..90)", ""},
		{"all of a batch", "users/ann/location", `[{"lat":98,"lon":2},{"lat":1}]`, 0, "report 1: lat 98, lon 2 is out of range (latitude is -90..90), and 1 more", ""},
		{"some of a batch", "users/ann/location", `[{"lat":1,"lon":2,"tst":1789999990},{"lat":98,"lon":2},{"lat":1,"lon":2,"tst":1789999991}]`, 2, "",
			"report 2: lat 98, lon 2 is out of range (latitude is -90..90)"},
		{"too many", "users/ann/location", "[" + strings.Repeat(`{"lat":1,"lon":2},`, 1000) + `{"lat":1,"lon":2}]`, 0, "the payload has more than 1000 reports; send them in parts", ""},
		{"too many of a source", "trackers/van/pos", "[" + strings.Repeat(`{},`, 1000) + `{}]`, 0, "the payload has more than 1000 reports; send them in parts", ""},
		{"another's", "users/bob/location", `{"lat":1,"lon":2}`, 0, "publish your own position to users/ann/location", ""},
		{"an lwt is no position", "owntracks/ann/phone", `{"_type":"lwt","tst":1}`, 0, "", ""},
		{"an lwt of a sibling", "owntracks/ann/phone/event", `{"_type":"lwt","tst":1}`, 0, `_type "lwt" is not passed on; what has a position is taken here: a location or a transition; and an lwt, on owntracks/{me}/{device}`, ""},
		{"an lwt on another topic", "users/ann/location", `{"_type":"lwt","tst":1}`, 0, `_type "lwt" is not passed on; what has a position is taken here: a location or a transition`, ""},
		{"a card", "owntracks/ann/phone", `{"_type":"card","name":"Ann"}`, 0, `_type "card" is not passed on; what has a position is taken here: a location or a transition; and an lwt, on owntracks/{me}/{device}`, ""},
		{"a waypoint is not where somebody is", "users/ann/location", `{"_type":"waypoint","desc":"home","lat":1,"lon":2,"rad":50,"tst":1}`, 0, `_type "waypoint" is not passed on; what has a position is taken here: a location or a transition`, ""},
		{"waypoints", "users/ann/location", `{"_type":"waypoints","waypoints":[]}`, 0, `_type "waypoints" is not passed on; what has a position is taken here: a location or a transition`, ""},
		{"a transition without a position", "users/ann/location", `{"_type":"transition","event":"enter","tst":1}`, 0, `_type "transition" is not passed on; what has a position is taken here: a location or a transition`, ""},
		{"encrypted", "owntracks/ann/phone", `{"_type":"encrypted","data":"AAAA"}`, 0, "report 1: an encrypted payload can't be read; switch encryption off in the app, and use TLS", ""},
		{"a source", "trackers/van/pos", `{"latitude":1,"longitude":2}`, 1, "", ""},
		{"a source's nonsense", "trackers/van/pos", `{}`, 0, "report 1: no lat: latitude has no value", ""},
		{"a source without a map", "plain/van", `{"lat":1,"lon":2}`, 1, "", ""},
		{"a source of nobody", "plain/", `{"lat":1,"lon":2}`, 0, `"" can't be a user`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, sources)
			err := w.publish("ann", test.topic, test.payload)
			var no *hooks.Refusal
			switch {
			case errors.As(err, &no) && (no.Text != test.refused || no.Reason != mqtt.PayloadFormatInvalid && no.Reason != mqtt.TopicNameInvalid):
				t.Errorf("refused with %v: %s, want %s", no.Reason, no.Text, test.refused)
			case no == nil && (err != nil || test.refused != ""):
				t.Errorf("got %v, want %q", err, test.refused)
			}
			if got := len(fixesOf(t, w.records, all)); got != test.kept {
				t.Errorf("%d fixes are kept, want %d", got, test.kept)
			}
			told := ""
			for _, r := range w.replies {
				topic, body, _ := strings.Cut(r, " ")
				if topic != "users/ann/reply" {
					t.Errorf("a reply to %s", topic)
				}
				told += field(body, "text")
			}
			if told != test.told {
				t.Errorf("told %q, want %q", told, test.told)
			}
		})
	}
}

// What of a batch is refused beside what is taken is counted, one by one, and told in the
// log once a minute, also of a source, which has nobody to reply to.
func TestRefusedReportsAreToldInTheLog(t *testing.T) {
	w := newWorld(t, sources)
	var log bytes.Buffer
	w.hook.Log = slog.New(slog.NewTextHandler(&log, nil))
	for _, topic := range []string{"users/ann/location", "plain/van"} {
		w.must("ann", topic, `[{"lat":1,"lon":2},{"lat":98,"lon":2},{"lon":2}]`)
	}
	if n := w.hook.Rejected.Load(); n != 4 {
		t.Errorf("%d are counted, want 4", n)
	}
	w.pass(time.Second)
	w.must("ann", "users/ann/location", `[{"lat":1,"lon":2},{"lat":99,"lon":2}]`)
	w.pass(58 * time.Second)
	const line = `level=WARN msg="reports were refused" reports=4 user=ann text="report 2: lat 98, lon 2 is out of range (latitude is -90..90), and 1 more"`
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, line) {
		t.Errorf("within a minute the log has %q", got)
	}
	w.pass(2 * time.Second)
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "reports=1 ") {
		t.Errorf("after a minute the log has %q", got)
	}
}

// A fix is counted as refused, too, if it is its tracker that finds no room.
func TestTrackersWithoutRoomCount(t *testing.T) {
	w := newWorld(t, sources)
	w.hook.Trackers = 1
	w.must("ann", "users/ann/location", `{"lat":1,"lon":2}`)
	if err := w.publish("ann", "users/ann/location/second", `{"lat":1,"lon":2}`); err == nil {
		t.Fatal("it was taken")
	}
	if n := w.hook.Rejected.Load(); n != 1 {
		t.Errorf("%d are counted, want 1", n)
	}
}

// What a payload of a source calls its tracker is a name, or no report.
func TestTrackerInAPayload(t *testing.T) {
	w := newWorld(t, sources)
	w.must("gw", "plain/van", `{"lat":1,"lon":2,"tracker":"gps"}`)
	if got := w.retained["users/van/location/gps"]; field(got, "via") != "gw" {
		t.Errorf("the tracker is %s", got)
	}
	for _, name := range []string{"a/b", "#", strings.Repeat("x", 129)} {
		if err := w.publish("gw", "plain/van", `{"lat":1,"lon":2,"tracker":"`+name+`"}`); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.20s: %v", name, err)
		}
	}
	if len(w.retained) != 3 {
		t.Errorf("%v", w.retained)
	}
}

// A tracker's name in a topic is a name.
func TestTrackerInATopic(t *testing.T) {
	w := newWorld(t, depot)
	for _, topic := range []string{"users/ann/location/my phone", "users/ann/location/", "users/ann/location/" + strings.Repeat("x", 129), "owntracks/ann/" + strings.Repeat("x", 129)} {
		if err := w.publish("ann", topic, w.fix(1, 10)); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.40s: %v", topic, err)
		}
	}
	w.must("ann", "users/ann/location/"+strings.Repeat("x", 128), w.fix(1, 10))
	if len(w.records) != 3 {
		t.Errorf("%d records", len(w.records))
	}
}

// A person has so many trackers and no more: a new one takes the place of one that is
// silent, or is refused. The history of what had to go stays.
func TestTrackersAreBounded(t *testing.T) {
	w := newWorld(t, depot)
	w.hook.Trackers, w.hook.All = 3, 5
	report := func(user, tracker string, lat float64) error {
		w.now += 1000
		return w.publish(user, "users/"+user+"/location/"+tracker, fmt.Sprintf(`{"lat":%g,"lon":11}`, lat))
	}
	for _, tracker := range []string{"a", "b", "c"} {
		if err := report("ann", tracker, 48); err != nil {
			t.Fatal(err)
		}
	}
	var no *hooks.Refusal
	if err := report("ann", "d", 48); !errors.As(err, &no) || no.Reason != mqtt.QuotaExceeded || no.Text != "ann has 3 trackers already, and none is silent" {
		t.Fatalf("refused with %v", err)
	}
	w.now += time.Hour.Milliseconds()
	for _, tracker := range []string{"a", "d"} { // b has been silent longest now
		if err := report("ann", tracker, 48); err != nil {
			t.Fatal(err)
		}
	}
	w.restart()
	w.hook.Trackers, w.hook.All = 3, 5
	if got := w.kept(all); got != "ann/a 48 1, ann/a 48 3605, ann/b 48 2, ann/c 48 3, ann/d 48 3606" {
		t.Errorf("kept are %s", got)
	}
	if w.retained["users/ann/location/b"] != "" || w.retained["owntracks/ann/b"] != "" || w.retained["users/ann/location/d"] == "" {
		t.Errorf("positions are %v", w.retained)
	}
	w.now += 2 * time.Hour.Milliseconds()
	events := len(w.inbox["boss"])
	if err := report("ann", "b", 48); err != nil || len(w.inbox["boss"]) != events+1 {
		t.Errorf("%v, %d events", err, len(w.inbox["boss"])-events) // it comes in as one that was never seen
	}
	if err := report("bob", "a", 48); !errors.As(err, &no) || no.Text != "the server has no room for another tracker" {
		t.Errorf("of all: %v", err) // ann's 3, and the histories of two
	}
	w.restart()
	w.pass(40 * 24 * time.Hour)
	if len(w.records) != 0 || len(w.retained) != 0 {
		t.Errorf("%d records and %d positions are left", len(w.records), len(w.retained))
	}
}

// However the reports of a batch stand in it, they are taken in the order of their
// measurement.
func TestABatchInAnyOrder(t *testing.T) {
	r, seed := random(t)
	w := newWorld(t, depot)
	var batch []string
	for i := range 50 {
		batch = append(batch, w.fix([]float64{48, 49}[i%2], i-200))
	}
	r.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
	w.must("ann", "users/ann/location/watch", "["+strings.Join(batch, ",")+"]")
	if got := len(w.inbox["boss"]); got != 50 || field(w.retained["users/ann/location"], "tst") != fmt.Sprint(float64(start/1000-151)) {
		t.Errorf("seed %d: %d events, at %s", seed, got, w.retained["users/ann/location"])
	}
}

// A tracker that a source does not name is the client.
func TestTrackerOfASource(t *testing.T) {
	w := newWorld(t, sources)
	w.must("gw", "trackers/van/pos", `{"latitude":1,"longitude":2}`)
	got := w.retained["users/van/location"]
	if field(got, "tracker") != "dev" || field(got, "via") != "gw" {
		t.Errorf("got %s", got)
	}
	w.must("van", "trackers/van/pos", `{"latitude":1,"longitude":2,"timestamp":1790000001000}`)
	if got := w.retained["users/van/location"]; field(got, "via") != "<nil>" {
		t.Errorf("its own report is %s", got)
	}
}

// Of a batch that was buffered offline each fix is kept and raises what it must; the
// position that is published, and the state, is that of its end.
func TestBatch(t *testing.T) {
	w := newWorld(t, depot)
	var batch []string
	for i := range 100 {
		batch = append(batch, w.fix([]float64{48, 49}[i%2], i-200))
	}
	batch = append(batch, w.fix(7, -500), w.fix(49, -101)) // late, and again
	w.must("ann", "users/ann/location/watch", "["+strings.Join(batch, ",")+"]")
	if got := len(fixesOf(t, w.records, all)); got != 101 {
		t.Errorf("%d fixes are kept", got)
	}
	if got := len(w.inbox["boss"]); got != 100 {
		t.Errorf("%d events", got)
	}
	if got := field(w.retained["users/ann/location"], "lat"); got != "49" || w.published != 3 {
		t.Errorf("at %s after %d publishes", got, w.published)
	}
	if w.puts > 101+2 {
		t.Errorf("%d records were written", w.puts)
	}
}

// By a source's topic, too, nobody reports for another but whom the operator lets.
func TestNobodyReportsForAnotherByASource(t *testing.T) {
	for _, test := range []struct {
		name, user, topic string
		kept              int
	}{
		{"its own", "van", "trackers/van/pos", 1},
		{"another's", "ann", "trackers/van/pos", 0},
		{"another's, without a map", "ann", "plain/van", 0},
		{"a gateway's", "lora", "trackers/van/pos", 1},
		{"a gateway's, of one that it is not for", "lora", "trackers/ann/pos", 0},
		{"of nobody who signed in", "", "trackers/van/pos", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, sources)
			w.hook.Source = func(from *hooks.Identity, who string) bool { return from.User == "lora" && who == "van" }
			err := w.publish(test.user, test.topic, `{"latitude":1,"longitude":2,"lat":1,"lon":2}`)
			no, refused := errors.AsType[*hooks.Refusal](err)
			if refused != (test.kept == 0) || refused && no.Reason != mqtt.NotAuthorized {
				t.Errorf("got %v", err)
			}
			if got := len(fixesOf(t, w.records, all)); got != test.kept {
				t.Errorf("%d fixes are kept, want %d", got, test.kept)
			}
		})
	}
}
