package conformance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// Chat from mosquitto_pub at each level and from paho.golang reaches mosquitto_sub,
// and each device of the peer and of the sender by a cursor of its own, one of them
// over a restart; a retry of another client has no second effect.
func TestChat(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto_sub")
	dir := t.TempDir()
	port, _, stop := serve(t, dir)
	devices := []string{"-V mqttv31 -i b31", "-V mqttv311 -i b311", "-V mqttv5 -i b5"}
	for _, d := range devices { // their cursors begin here
		name, args := with([]string{"mosquitto_sub"}, port, d+" -c -u bob -q 1 -t users/bob/inbox -E")
		run(t, name, args...)
	}
	name, args := with([]string{"mosquitto_pub"}, port, "-r -q 1 -t alive -m alive")
	run(t, name, args...)
	name, args = with([]string{"mosquitto_sub"}, port, "-i live -u bob -q 1 -C 7 -W 20 -t users/bob/inbox -t alive")
	live := start(t, "alive", name, args...) // the inbox is subscribed to as well
	var want []string
	for _, v := range versions {
		for range 2 { // the second one is a retry
			name, args := with([]string{"mosquitto_pub"}, port, "-V "+version(v)+" -u ann -q 1 -t users/bob/chat/message-"+v+" -m hello"+v)
			run(t, name, args...)
		}
		want = append(want, "ann hello"+v)
	}
	bob := pahoClient(t, port, "bob")
	for _, text := range []string{"one", "two", "three"} {
		for range 2 {
			if _, err := bob.Publish(t.Context(), &paho.Publish{Topic: "users/ann/chat/message-" + text, QoS: 1, Payload: []byte(text)}); err != nil {
				t.Fatal(err)
			}
		}
		want = append(want, "bob "+text)
	}
	out, err := live.wait()
	if err != nil {
		t.Errorf("the device that was there: %v", err)
	}
	inbox(t, "the first device", out, want)
	read := func(device, user string) string {
		name, args := with([]string{"mosquitto_sub"}, port, device+" -u "+user+" -q 1 -C 6 -W 20 -t users/"+user+"/inbox")
		return run(t, name, args...)
	}
	inbox(t, "the sender's device", read("-V mqttv311 -i a", "ann"), want)
	inbox(t, "bob's "+devices[0], read(devices[0]+" -c", "bob"), want)
	stop()
	port, _, _ = serve(t, dir)
	for _, d := range devices[1:] {
		inbox(t, "bob's "+d, read(d+" -c", "bob"), want)
	}
}

// pahoClient is a device of a user, by paho.golang alone.
func pahoClient(t *testing.T, port, user string) *paho.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	nc, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: nc})
	_, err = c.Connect(ctx, &paho.Connect{ClientID: user + "-paho", KeepAlive: 30, CleanStart: true, Username: user, UsernameFlag: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Disconnect(&paho.Disconnect{}) }) //nolint:errcheck // the broker may have ended first
	return c
}

// inbox wants the events that were printed to be these, numbered from 1.
func inbox(t *testing.T, who, printed string, want []string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(printed) {
		if !strings.HasPrefix(line, "{") {
			continue // what the tool says of itself
		}
		var e struct {
			Seq              int
			Type, From, Body string
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %s: %v", who, line, err)
		}
		if got = append(got, e.From+" "+e.Body); e.Seq != len(got) || e.Type != "msg" {
			t.Errorf("%s: event %d is %s", who, len(got), line)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s has %q, want %q", who, got, want)
	}
}
