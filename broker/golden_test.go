package broker_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// golden makes the store of this version anew: go test ./broker -run Golden -golden.
// A released version's store is never made anew; a later version gets one beside it.
var golden = flag.Bool("golden", false, "write testdata/store-v1.tar.gz")

const goldenFile = "testdata/store-v1.tar.gz"

// fill leaves one record of every kind in the store of a broker, and ends it.
func fill(t testing.TB, b *broker.Broker) {
	addr, err := b.Listen("mqtt://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sub := dial(t, addr, mqtt.V5)
	sub.connect("sub", lasting, forever, func(p *mqtt.Connect) { p.ReceiveMaximum = 4 })
	sub.subscribe("q/#", 2)
	phone := dial(t, addr, mqtt.V5)
	phone.connect("phone", lasting, forever, user("ann"))
	phone.subscribe("users/ann/inbox", 1)
	member := dial(t, addr, mqtt.V5)
	member.connect("member", lasting, forever)
	member.subscribe("$share/g/shared", 1)
	for i := range 6 {
		more := dial(t, addr, mqtt.V5)
		more.connect(fmt.Sprint("more", i), lasting, forever)
		more.subscribe("q/wide", 1)
		more.nc.Close()
	}
	p := dial(t, addr, mqtt.V5)
	p.connect("pub", lasting, forever)
	p.publish("q/1", "one", 2, 1) // sent, not received
	p.wantAck(mqtt.PUBREC, 1)     // and never released by its publisher
	first := sub.message()
	p.publish("q/2", "two", 2, 2)
	p.wantAck(mqtt.PUBREC, 2)
	second := sub.message()
	sub.ack(mqtt.PUBREC, second.ID)
	sub.wantAck(mqtt.PUBREL, second.ID) // released, not completed
	sub.nc.Close()
	phone.nc.Close()
	member.nc.Close()
	until(t, "the three have gone", func() bool { return b.Stats().Online == 1 })
	pub(t, b, &mqtt.Message{Topic: "q/wide", Payload: []byte("wide"), QoS: 1, ContentType: "text/plain"})
	pub(t, b, &mqtt.Message{Topic: "r", Payload: []byte("stays"), QoS: 1, Retain: true})
	pub(t, b, &mqtt.Message{Topic: "shared", Payload: []byte("shared"), QoS: 1})
	tell(t, p, "ann", "hello")
	mortal := dial(t, addr, mqtt.V5)
	mortal.connect("mortal", lasting, forever, func(p *mqtt.Connect) {
		p.Will = &mqtt.Will{Topic: "q/will", Payload: []byte("gone"), QoS: 1, Delay: 1 << 30}
	})
	_ = first
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// ageless is a broker that forgets nothing because of its age, whatever the clock says.
func ageless(dir string) broker.Config {
	return broker.Config{Data: dir, Memory: 256 << 20, Hooks: []any{teller{}}, ResetClock: true, Log: quiet,
		Limits: broker.Limits{SessionExpiry: 1 << 62, InboxKeep: 1 << 62, QueueKeep: -1}}
}

// forever keeps the golden store's sessions, however old it gets.
func forever(p *mqtt.Connect) { p.SessionExpiry = mqtt.NeverExpires }

// A store that this version wrote opens, and everything in it is understood.
func TestAGoldenStoreOpens(t *testing.T) {
	if *golden {
		dir := t.TempDir()
		b, _ := start(t, ageless(dir))
		fill(t, b)
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("tar", "--sparse", "-czf", goldenFile, "-C", dir, "--exclude=ballast", "--exclude=LOCK", ".").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-xzf", goldenFile, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, addr := start(t, ageless(dir))
	back := func(id string, change ...func(*mqtt.Connect)) *client {
		t.Helper()
		c := dial(t, addr, mqtt.V5)
		if a := c.connect(id, append(change, lasting, forever)...); !a.SessionPresent {
			t.Fatalf("the session of %s is gone", id)
		}
		return c
	}
	sub := back("sub")
	sub.wantAck(mqtt.PUBREL, 2)
	if m := sub.want("q/1", "one"); m.ID != 1 || !m.Dup || m.QoS != 2 {
		t.Errorf("QoS 2 came under %d, dup %v", m.ID, m.Dup)
	}
	if m := sub.want("q/wide", "wide"); string(m.Props.ContentType) != "text/plain" || m.Dup {
		t.Errorf("got %+v", m.Props)
	}
	for i := range 6 {
		back(fmt.Sprint("more", i)).want("q/wide", "wide")
	}
	back("member").want("shared", "shared")
	if e := back("phone", user("ann")).event(); e.Seq != 1 || e.Body != "hello" {
		t.Errorf("the inbox holds %+v", e)
	}
	p := back("pub")
	p.publish("q/1", "one", 2, 1, func(p *mqtt.Publish) { p.Dup = true })
	p.wantAck(mqtt.PUBREC, 1)
	p.ack(mqtt.PUBREL, 1)
	p.wantAck(mqtt.PUBCOMP, 1)
	sub.quiet() // it was no new message
	p.subscribe("r", 1)
	p.want("r", "stays")
}
