package conformance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// ownTracks is one of the OwnTracks apps: the packets that it sends, byte by byte,
// with the settings that it comes with. Android's is of level 3 (`MQIsdp`) with a
// keep alive of an hour, iOS' of level 4 with one of a minute; neither asks for a
// clean session, both leave a will of type `lwt` on their own topic, subscribe at
// QoS 2 and publish retained at the QoS that is set, 1 or 2.
type ownTracks struct {
	user, device string
	level        byte
	keepAlive    uint16
	beside       []string // what it subscribes to below owntracks/+/+

	t  *testing.T
	nc net.Conn
}

func android(t *testing.T) *ownTracks {
	return &ownTracks{user: "ann", device: "pixel", level: 3, keepAlive: 3600, beside: []string{"info", "event", "status"}, t: t}
}

func ios(t *testing.T) *ownTracks {
	return &ownTracks{user: "bob", device: "iphone", level: 4, keepAlive: 60, beside: []string{"event", "info"}, t: t}
}

func (o *ownTracks) topic() string { return "owntracks/" + o.user + "/" + o.device }

// text is a string of MQTT.
func text(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }

// packet puts the fixed header in front of what follows it.
func packet(first byte, rest string) string {
	head := []byte{first, byte(len(rest))}
	if len(rest) > 127 {
		head = []byte{first, byte(len(rest))&127 | 128, byte(len(rest) >> 7)}
	}
	return string(head) + rest
}

// opens connects: CONNECT has user name, password and a will of QoS 0 that is not
// retained (0xC4), and no clean session.
func (o *ownTracks) opens(port string, present byte) {
	o.t.Helper()
	nc, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { nc.Close() })                   //nolint:errcheck // it may be closed
	nc.SetReadDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // then a read fails
	o.nc = nc
	name := text("MQTT")
	if o.level == 3 {
		name = text("MQIsdp")
	}
	o.sends(packet(0x10, name+string([]byte{o.level, 0xC4, byte(o.keepAlive >> 8), byte(o.keepAlive)})+
		text(o.user+o.device)+text(o.topic())+text(`{"_type":"lwt","tst":1790000000}`)+text(o.user)+text("secret")))
	o.gets("\x20\x02" + string([]byte{present}) + "\x00")
}

// subscribes to everybody's positions and their siblings, and to its commands, all
// in one SUBSCRIBE at QoS 2; the trees grant 1.
func (o *ownTracks) subscribes() {
	o.t.Helper()
	filters := text("owntracks/+/+") + "\x02"
	for _, sibling := range o.beside {
		filters += text("owntracks/+/+/"+sibling) + "\x02"
	}
	o.sends(packet(0x82, "\x00\x01"+filters+text(o.topic()+"/cmd")+"\x02"))
	o.gets(packet(0x90, "\x00\x01"+strings.Repeat("\x01", len(o.beside)+2)))
}

// reports a position at QoS 1 or 2, retained, and takes the exchange to its end.
func (o *ownTracks) reports(id, qos byte, lat float64, tst int64) {
	o.t.Helper()
	report := fmt.Sprintf(`{"_type":"location","acc":12,"alt":188,"batt":80,"bs":1,"conn":"m","created_at":%d,"lat":%g,"lon":16.3738,"m":1,"t":"u","tid":"%.2s","tst":%d,"vac":3,"vel":0}`, tst+1, lat, o.device, tst)
	o.sends(packet(0x31|qos<<1, text(o.topic())+"\x00"+string([]byte{id})+report))
	if qos == 1 {
		o.gets("\x40\x02\x00" + string([]byte{id}))
		return
	}
	o.gets("\x50\x02\x00" + string([]byte{id}))
	o.sends("\x62\x02\x00" + string([]byte{id}))
	o.gets("\x70\x02\x00" + string([]byte{id}))
}

func (o *ownTracks) sends(b string) {
	o.t.Helper()
	if _, err := io.WriteString(o.nc, b); err != nil {
		o.t.Fatal(err)
	}
}

// gets wants exactly these bytes next.
func (o *ownTracks) gets(want string) {
	o.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(o.nc, got); err != nil || string(got) != want {
		o.t.Fatalf("%s got % x, %v; want % x", o.device, got[:n], err, want)
	}
}

// sees wants a PUBLISH on a topic next, and acknowledges it.
func (o *ownTracks) sees(topic string) (first byte, said map[string]any) {
	o.t.Helper()
	first, body, err := readPacket(o.nc)
	if err != nil || first>>4 != 3 || !bytes.HasPrefix(body, []byte(text(topic))) {
		o.t.Fatalf("%s got %x %q, %v; want a PUBLISH on %s", o.device, first, body, err, topic)
	}
	body = body[2+len(topic):]
	if first>>1&3 == 1 {
		o.sends("\x40\x02" + string(body[:2]))
		body = body[2:]
	}
	if err := json.Unmarshal(body, &said); err != nil {
		o.t.Fatalf("%s got %q: %v", o.device, body, err)
	}
	return first, said
}

func readPacket(r io.Reader) (first byte, body []byte, err error) {
	var b [1]byte
	if _, err = io.ReadFull(r, b[:]); err != nil {
		return 0, nil, err
	}
	first = b[0]
	n, shift := 0, 0
	for b[0] = 128; b[0]&128 != 0; shift += 7 {
		if _, err = io.ReadFull(r, b[:]); err != nil {
			return 0, nil, err
		}
		n |= int(b[0]&127) << shift
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return first, body, err
}

// quiet wants nothing before the answer to a PINGREQ.
func (o *ownTracks) quiet() {
	o.t.Helper()
	o.sends("\xC0\x00")
	o.gets("\xD0\x00")
}

// The apps' own packets: they connect as they are, will included, see each other's
// positions, and miss none over a lost connection.
func TestOwnTracksPackets(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			port, _, _ := serve(t, t.TempDir())
			ann, bob := android(t), ios(t)
			ann.opens(port, 0)
			ann.subscribes()
			bob.opens(port, 0)
			bob.subscribes()

			bob.reports(2, qos, 48.25, 1790000000)
			if _, said := ann.sees(bob.topic()); said["_type"] != "location" || said["lat"] != 48.25 || said["lon"] != 16.3738 || said["tst"] != 1790000000.0 ||
				said["tid"] != "ip" || said["conn"] != "m" || said["bs"] != 1.0 || said["vac"] != 3.0 || said["t"] != "u" || said["batt"] != 80.0 || said["alt"] != 188.0 {
				t.Errorf("ann sees %v", said)
			}
			ann.reports(2, qos, 47.5, 1790000010)
			if _, said := bob.sees(ann.topic()); said["lat"] != 47.5 {
				t.Errorf("bob sees %v", said)
			}
			ann.quiet()
			bob.quiet()

			ann.nc.Close() //nolint:errcheck // it is lost
			if first, said := bob.sees(ann.topic()); first != 0x30 || said["_type"] != "lwt" || said["tst"] != 1790000000.0 {
				t.Errorf("of her will bob sees %x %v", first, said)
			}
			bob.reports(3, qos, 48.5, 1790000600)
			ann.opens(port, 0) // level 3 has no Session Present; what was missed comes all the same
			if _, said := ann.sees(bob.topic()); said["lat"] != 48.5 {
				t.Errorf("of what she missed ann sees %v", said)
			}
			ann.quiet()
			bob.quiet()

			bob.sends("\xE0\x00")
			if _, err := bob.nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("after its DISCONNECT bob's phone got %v", err)
			}
			ann.quiet()
			bob.opens(port, 1)
			bob.quiet()
		})
	}
}
